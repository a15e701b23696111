"""How a source of policies stands."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """`kind` is `directory`, `kubernetes` or `applied`; `objects` counts texts, not policies.

    While `problems` are there, what is held may be out of date since `stale_since` (None with a
    problem: it was not current since the start).
    """

    name: str
    kind: str
    objects: int
    stale_since: datetime | None = None
    problems: tuple[str, ...] = ()
