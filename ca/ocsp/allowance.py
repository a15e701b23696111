"""How much work strangers may cause: so many units a second, and what was saved up to a second."""

from dataclasses import dataclass

from meshca.clock import Clock
from meshca.errors import Overloaded


@dataclass(slots=True)
class Allowance:
    """At most `per_second` units of work in any second, and twice that in one that begins idle."""

    per_second: float
    clock: Clock
    _left: float = 0.0
    _at: float | None = None

    def take(self, units: int = 1) -> None:
        """Spend `units`; raises Overloaded, and spends nothing, when they are not there."""
        now = self.clock.monotonic()
        since = 1.0 if self._at is None else now - self._at
        self._left = min(self.per_second, self._left + since * self.per_second)
        self._at = now
        if self._left < units:
            raise Overloaded("strangers ask for more than they may cause")
        self._left -= units
