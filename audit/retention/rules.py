"""For how long bodies are kept, by kind: the rules, and the shortest that make sense. Pure.

A kind that no rule names has the default; by default nothing ever expires. Some kinds never expire,
whatever a rule says: what shows that the log is whole, and who held or brought back what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from audit.entry import KINDS
from meshca.errors import InvalidDocument, Problem
from meshca.settings import Settings

FOREVER: Final = frozenset({"redaction", "legal_hold", "log_key", "restore", "root_change"})
"""Kinds whose entries stay: without them nobody could say why another body is gone."""

SHORTEST: Final = timedelta(days=1)
"""What a sink, an anchor or an export that was away for a night still finds."""

CERTIFICATE_KINDS: Final = frozenset({"issuance", "renewal", "revocation", "ban"})
"""Kinds that are asked for as long as a certificate of their time may live."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How long each kind is kept; None is for ever.

    Raises InvalidDocument, with every problem, for a kind that there is none, for one that never
    expires, and for a time shorter than `SHORTEST` or, of certificates, than `svid_maximum`.
    """

    default: timedelta | None = None
    kinds: Mapping[str, timedelta | None] = field(default_factory=lambda: MappingProxyType({}))
    svid_maximum: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        """Check every rule."""
        problems = [p for kind, keep in self.kinds.items() for p in self._problems(kind, keep)]
        if self.default is not None and self.default < self._shortest("issuance"):
            message = (
                f"shorter than {_days(self._shortest('issuance'))}, the least that makes sense"
            )
            problems.append(Problem("audit.retention.default", message))
        if problems:
            raise InvalidDocument(problems)

    def keep(self, kind: str) -> timedelta | None:
        """Return for how long entries of `kind` are kept; None is for ever."""
        if kind in FOREVER or kind not in KINDS:
            return None
        return self.kinds.get(kind, self.default)

    def cutoffs(self, now: datetime) -> dict[str, int]:
        """Return, for each kind that expires, the time (µs) before which its entries have."""
        found: dict[str, int] = {}
        for kind in KINDS:
            keep = self.keep(kind)
            if keep is not None:
                found[kind] = round((now - keep).timestamp() * 1_000_000)
        return found

    def as_text(self) -> dict[str, str]:
        """Return the rules of all kinds as a person wrote them, `forever` or in days."""
        return {kind: _days(self.keep(kind)) for kind in KINDS}

    def _shortest(self, kind: str) -> timedelta:
        return max(SHORTEST, self.svid_maximum) if kind in CERTIFICATE_KINDS else SHORTEST

    def _problems(self, kind: str, keep: timedelta | None) -> list[Problem]:
        path = f"audit.retention.kinds.{kind}"
        if kind not in KINDS:
            return [Problem(path, f"unknown kind; known: {', '.join(KINDS)}")]
        if keep is None:
            return []
        if kind in FOREVER:
            return [Problem(path, "entries of this kind are kept for ever")]
        if keep < self._shortest(kind):
            shortest = _days(self._shortest(kind))
            return [Problem(path, f"shorter than {shortest}, the least that makes sense")]
        return []


def rules_of(settings: Settings) -> Rules:
    """Return the rules that `settings` have; raises InvalidDocument as `Rules` does."""
    config = settings.audit.retention
    return Rules(
        default=config.default,
        kinds=config.kinds,
        svid_maximum=settings.lifetimes.svid_maximum,
    )


def _days(keep: timedelta | None) -> str:
    if keep is None:
        return "forever"
    hours = keep // timedelta(hours=1)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"
