"""How many decisions a second are recorded in full: of proxies, of one application, of all of them.

Applications choose what they ask about and what they say of it, so each has a bucket of its own,
whatever it asks with, and all of them another than proxies: what one asks for too much is lost of
its own. A bucket is forgotten when it is full again, when a new one would let no more through.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from authz.records.bucket import Bucket
from meshca.clock import Clock

ASKED_A_SECOND: Final = 20.0
ASKED_AT_ONCE: Final = 200
ALL_ASKED_A_SECOND: Final = 100.0
ALL_ASKED_AT_ONCE: Final = 2_000
MAXIMUM_ASKERS: Final = 10_000


@dataclass(slots=True)
class AskerRates:
    """The bucket of each application that asks for decisions, and that of all of them."""

    clock: Clock
    _all: Bucket = field(init=False)
    _buckets: OrderedDict[str, Bucket] = field(init=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._all = Bucket(self.clock, ALL_ASKED_A_SECOND, float(ALL_ASKED_AT_ONCE))

    def take(self, asker: str) -> bool:
        """Take one of `asker`; return False when it has none left, or all together have none."""
        bucket = self._buckets.pop(asker, None)
        if bucket is None:
            bucket = Bucket(self.clock, ASKED_A_SECOND, float(ASKED_AT_ONCE))
            self._forget()
        self._buckets[asker] = bucket
        return bucket.take() and self._all.take()

    @property
    def remembered(self) -> int:
        """Return how many buckets are held."""
        return len(self._buckets)

    def _forget(self) -> None:
        """Drop the buckets that were longest not asked of, while full or too many for one more."""
        while self._buckets:
            oldest = next(iter(self._buckets.values()))
            if not oldest.is_full() and len(self._buckets) < MAXIMUM_ASKERS:
                return
            self._buckets.popitem(last=False)
