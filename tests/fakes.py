"""Fakes on real parts, one a seam, shared by every test."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass
class FakeClock:
    """A clock that stands still until told to move."""

    at: datetime = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
    seconds: float = 1000.0

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self.at

    def monotonic(self) -> float:
        """Return seconds that only `advance` moves."""
        return self.seconds

    def advance(self, duration: timedelta) -> None:
        """Let time pass."""
        self.at += duration
        self.seconds += duration.total_seconds()

    def jump(self, duration: timedelta) -> None:
        """Set the wall clock, as NTP or an operator does; monotonic time does not notice."""
        self.at += duration
