"""How many access log streams a holder may have open, and how many entries all of them together.

A holder has one bucket, however many streams it opens, at once or one after the other: the bucket
stays after the last stream until it is full again, when a new one would let no more through.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from authz.records.bucket import Bucket
from meshca.clock import Clock
from meshca.errors import Overloaded

MAXIMUM_STREAMS: Final = 20_000
MAXIMUM_STREAMS_PER_HOLDER: Final = 256


@dataclass(slots=True)
class HolderRates:
    """The streams and the bucket of each holder; each lets `a_second` and `burst` through."""

    clock: Clock
    a_second: float
    burst: float
    _open: Counter[str] = field(init=False, default_factory=Counter)
    _buckets: dict[str, Bucket] = field(init=False, default_factory=dict)
    _rested: OrderedDict[str, Bucket] = field(init=False, default_factory=OrderedDict)

    def take_in(self, holder: str) -> Bucket:
        """Count one more stream of `holder` and return its bucket; raises Overloaded."""
        if self._open[holder] >= MAXIMUM_STREAMS_PER_HOLDER:
            raise Overloaded(f"{holder} already has {self._open[holder]} access log streams")
        if self._open.total() >= MAXIMUM_STREAMS:
            raise Overloaded(f"{self._open.total()} access log streams are open")
        self._open[holder] += 1
        if holder not in self._buckets:
            rested = self._rested.pop(holder, None)
            self._buckets[holder] = rested or Bucket(self.clock, self.a_second, self.burst)
        return self._buckets[holder]

    def let_go(self, holder: str) -> None:
        """Count one stream of `holder` less."""
        self._open[holder] -= 1
        if self._open[holder]:
            return
        del self._open[holder]
        self._rested[holder] = self._buckets.pop(holder)
        self._forget()

    @property
    def remembered(self) -> int:
        """Return how many buckets are held."""
        return len(self._buckets) + len(self._rested)

    def _forget(self) -> None:
        """Drop the buckets that rested longest while they are full, or there are too many."""
        while self._rested:
            oldest = next(iter(self._rested.values()))
            if not oldest.is_full() and len(self._rested) <= MAXIMUM_STREAMS:
                return
            self._rested.popitem(last=False)
