"""A token bucket: so many a second, and a burst."""

from dataclasses import dataclass, field

from meshca.clock import Clock


@dataclass(slots=True)
class Bucket:
    """Lets `a_second` through on average and at most `burst` at once."""

    clock: Clock
    a_second: float
    burst: float
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst
        self._filled_at = self.clock.monotonic()

    def take(self) -> bool:
        """Take one; return False when none is left."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def is_full(self) -> bool:
        """Return whether it is as a new one would be."""
        self._fill()
        return self._tokens >= self.burst

    def _fill(self) -> None:
        now = self.clock.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.a_second)
        self._filled_at = now
