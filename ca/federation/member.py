"""One federated trust domain while the process runs: its bundle, and how fetching it stands."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from ca.federation.document import ForeignBundle
from ca.federation.schedule import is_stale, refresh_interval
from ca.federation.store import Relation


@dataclass(slots=True, eq=False)
class Member:
    """A federated domain; `fetched_at` is None until an endpoint has answered.

    `since` is when the relation was made; `due` is a reading of the monotonic clock.
    """

    relation: Relation
    since: datetime
    bundle: ForeignBundle | None = None
    fetched_at: datetime | None = None
    due: float = 0.0
    failures: int = 0
    last_error: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def interval(self) -> int:
        """Return how many seconds lie between two fetches."""
        return refresh_interval(self.bundle.refresh_hint if self.bundle else None)

    def is_stale(self, now: datetime) -> bool:
        """Return whether the bundle has missed its refreshes."""
        return is_stale(now, self.fetched_at or self.since, self.interval)
