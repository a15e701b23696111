"""A clock that never goes back: what has ended stays ended when somebody sets the time back.

Without it an emergency bypass whose half hour is over would hold again for as long as the clock
was set back, and one that holds would hold for longer. It follows the wall clock forwards, and the
monotonic one where the wall clock falls behind. A process that starts takes the wall clock's word.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meshca.clock import Clock


@dataclass(slots=True)
class ForwardClock:
    """`clock`, whose `now` is at least what was seen before and the time that has passed since."""

    clock: Clock
    _latest: datetime | None = None
    _seen_at: float = 0.0

    def now(self) -> datetime:
        """Return the time, never before one that it has returned."""
        seen_at, now = self.clock.monotonic(), self.clock.now()
        if self._latest is not None:
            now = max(now, self._latest + timedelta(seconds=seen_at - self._seen_at))
        self._latest, self._seen_at = now, seen_at
        return now

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes backwards."""
        return self.clock.monotonic()
