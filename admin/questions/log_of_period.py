"""What the log says of a period, in one pass over it: counts, and the entries that matter.

It reads the log and no index: an index that was forged leaves entries out, and a report is signed.
Bodies are held to their leaves, these to the checkpoint that holds the period, and the bodies say
what is counted. Of a redacted entry kind and time are left, by their columns.
"""

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from admin.views import Json, time_text
from audit.checkpoint import Checkpoint
from audit.checkpoints import time_of
from audit.log import Log, Stored, microseconds
from audit.stretch import read_stretch

MAXIMUM_VALUES: Final = 1_000


@dataclass(slots=True)
class Counts:
    """How many entries have each value; "" is no value."""

    values: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> Json:
        """Return the most frequent, and how many there are of all."""
        common = sorted(self.values.items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "total": self.values.total(),
            "exact": True,
            "values": len(self.values),
            "counts": dict(common[:MAXIMUM_VALUES]),
        }


@dataclass(slots=True, kw_only=True)
class LogOfPeriod:
    """What was counted and kept; of `lists`, by name, the newest `limit` entries of its kinds."""

    since: datetime
    until: datetime
    lists: Mapping[str, Collection[str]]
    limit: int
    entries: int = 0
    redacted: int = 0
    kinds: Counts = field(default_factory=Counts)
    outcomes: Counts = field(default_factory=Counts)
    issued_to: Counts = field(default_factory=Counts)
    refused_for: Counts = field(default_factory=Counts)
    kept: Mapping[str, deque[Json]] = field(init=False)

    _lists_of: dict[str, list[deque[Json]]] = field(init=False)
    _span: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.kept = {name: deque(maxlen=self.limit) for name in self.lists}
        kinds = {kind for some in self.lists.values() for kind in some}
        self._lists_of = {
            kind: [self.kept[name] for name, some in self.lists.items() if kind in some]
            for kind in kinds
        }
        self._span = microseconds(self.since), microseconds(self.until)

    def read(self, log: Log, stretch: range, signed: Checkpoint | None) -> None:
        """Read the period, which is in `stretch`; raises EvidenceBroken, StoreUnavailable."""
        for stored in read_stretch(log, stretch, signed):
            body = stored.document() or _left_of(stored)
            since, until = self._span
            if since <= microseconds(datetime.fromisoformat(body["time"])) < until:
                self._take(stored, body)

    def _take(self, stored: Stored, body: Json) -> None:
        kind, outcome = body["kind"], body.get("outcome", "")
        self.entries += 1
        self.redacted += stored.body is None
        self.kinds.values[kind] += 1
        self.outcomes.values[outcome] += 1
        if kind == "issuance":
            self.issued_to.values[body.get("spiffe_id", "")] += 1
        elif kind == "refusal":
            self.refused_for.values[body.get("reason", "")] += 1
        for newest in self._lists_of.get(kind, ()):
            newest.append({**body, "leaf_hash": stored.leaf_hash.hex()})


def _left_of(stored: Stored) -> Json:
    """Return what is left of a redacted entry."""
    time = time_text(time_of(stored.time_us))
    return {"index": stored.index, "time": time, "kind": stored.kind, "redacted": True}
