"""Trying again within a deadline, for the faults that pass by themselves (docs/upstreams.md).

The caller's loop tries again too, for as long as it takes; this bridges the seconds in which a
leader is elected or a limit is reached, with the same key, so that a commit of which nobody knows
whether it happened leaves at most one certificate more.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ca.upstream.vault.errors import Reaction, VaultFault
from meshca.clock import Clock
from meshca.logs import get_logger

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 4.0

log = get_logger("vault")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How to wait between attempts; `wait` blocks the calling thread."""

    clock: Clock
    wait: Callable[[float], None] = time.sleep
    draw: random.Random = field(default_factory=random.SystemRandom)

    def insist(self, what: str, attempt: Callable[[float], _T], *, seconds: float) -> _T:
        """Return what `attempt`, given its deadline, returns at last.

        Raises the last VaultFault when it does not pass by itself or `seconds` are over.
        """
        deadline = self.clock.monotonic() + seconds
        tries = 0
        while True:
            try:
                return attempt(deadline)
            except VaultFault as fault:
                delay = self._delay(tries)
                tries += 1
                last = self.clock.monotonic() + delay >= deadline
                if fault.reaction is not Reaction.RETRY or last:
                    raise
                log.warning("vault_retry", what=what, condition=fault.condition, attempt=tries)
            self.wait(delay)

    def _delay(self, tries: int) -> float:
        ceiling = min(FIRST_SECONDS * 2.0**tries, LONGEST_SECONDS)
        return ceiling * (0.5 + self.draw.random() / 2)
