"""The holds and the keys of the log, as its own entries say: every step of either is an entry.

The rows of `audit_holds` and `audit_log_keys` prove nothing of themselves: whoever has a database
or a backup can change them. The entries are leaves of the tree. So a backup has the rows that its
entries lead to, and a restored database gets those and no others.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import orjson

from audit.key_history import LOG_KEY_KIND, KeyHistory
from audit.log import microseconds
from audit.log_keys import audit_log_keys
from audit.retention.holds import Scope, audit_holds
from meshca.errors import EvidenceBroken, RequestRefused

LEGAL_HOLD: Final = "legal_hold"
TABLES: Final = (audit_log_keys.name, audit_holds.name)
_MAY_BE: Final = b'"kind":"l'
_STEPS: Final = MappingProxyType({"release_asked": "asked", "released": "released"})
_STAGES: Final = ("active", "retiring", "retired")
_MALFORMED: Final = (KeyError, TypeError, ValueError, RequestRefused)

Json = Mapping[str, Any]


@dataclass(slots=True)
class Told:
    """Hears of every body in the order of the log.

    `histories` are by origin. `heard` is how many entries were about a hold or a key.
    """

    histories: dict[str, KeyHistory] = field(default_factory=dict)
    heard: int = 0
    _holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    _keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def heed(self, index: int, body: bytes) -> None:
        """Take note of entry `index`; raises EvidenceBroken for a step that cannot be."""
        if _MAY_BE not in body:
            return
        document = orjson.loads(body)
        steps: Mapping[str, Callable[[Json], None]] = {
            LEGAL_HOLD: self._take_hold,
            LOG_KEY_KIND: self._take_key,
        }
        step = steps.get(document["kind"])
        if step is None or document.get("outcome") != "done":
            return
        self.heard += 1
        try:
            step(document)
        except _MALFORMED as error:
            raise EvidenceBroken(index, f"entry {index} is no step of a hold or key") from error

    def history(self, origin: str) -> KeyHistory:
        """Return the keys of the log `origin`; none if the entries name none."""
        return self.histories.get(origin) or KeyHistory(origin)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that follow, each as a line of a backup holds it."""
        for table, rows in zip(TABLES, (self._keys, self._holds), strict=True):
            for name in sorted(rows):
                yield {"table": table, "row": rows[name]}

    def _take_hold(self, document: Json) -> None:
        details = document["details"]
        if details["step"] == "placed":
            self._holds[str(details["hold"])] = _placed(document, details)
            return
        taken = _step(_STEPS[details["step"]], document)
        self._holds[details["hold"]].update(taken)

    def _take_key(self, document: Json) -> None:
        details = document["details"]
        origin, verifier, stage = (str(details[n]) for n in ("origin", "verifier", "stage"))
        if stage not in _STAGES:
            raise ValueError("not a stage")
        self.histories.setdefault(origin, KeyHistory(origin)).hear(dict(document))
        until = details.get("retires_at")
        before = self._keys.get(verifier, {"introduced_at": _time(document["time"])})
        self._keys[verifier] = {
            "verifier": verifier,
            "origin": origin,
            "replica": str(details.get("replica", "")),
            "stage": stage,
            "introduced_at": before["introduced_at"],
            "retires_at": None if until is None else _time(until),
        }


def _placed(document: Json, details: Json) -> dict[str, Any]:
    scope = Scope.from_json(details["scope"])
    return {
        "name": str(details["hold"]),
        "scope": orjson.dumps(scope.as_json(), option=orjson.OPT_SORT_KEYS).decode(),
        "reference": str(details["reference"]),
        "placed_at": _time(document["time"]),
        "placed_by": str(document["actor"]),
        "reason": str(document["reason"]),
        **{f"{name}_at": None for name in _STEPS.values()},
        **{f"{name}_{what}": "" for name in _STEPS.values() for what in ("by", "reason")},
    }


def _step(name: str, document: Json) -> dict[str, Any]:
    return {
        f"{name}_at": _time(document["time"]),
        f"{name}_by": str(document["actor"]),
        f"{name}_reason": str(document["reason"]),
    }


def _time(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))
