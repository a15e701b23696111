"""Which revocation lists are in force: what the table held when it was last read, and no more.

A list takes the place of one with a lower number only, and leaves when it ends. It is kept even
then: should the clock have been wrong, it comes back. Nothing is signed here.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ca.crl import count_entries
from ca.revocation.crl_store import Crls
from ca.revocation.view import Crl
from meshca.clock import Clock
from meshca.errors import NotFound
from meshca.logs import get_logger
from meshca.metrics import Metrics

KIND: Final = "issuer"
"""The label of our metrics: whose lists these are."""

log = get_logger("ca")


@dataclass(slots=True, kw_only=True)
class ListsInForce:
    """The newest list of each authority; all of it happens on the event loop, but for reading."""

    crls: Crls
    clock: Clock
    metrics: Metrics
    _known: dict[str, tuple[Crl, int]] = field(default_factory=dict)
    _current: Mapping[str, Crl] = field(default_factory=lambda: MappingProxyType({}))
    _subscribers: list[Callable[[], None]] = field(default_factory=list)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop whenever `current` has changed."""
        self._subscribers.append(callback)

    def current(self) -> Mapping[str, Crl]:
        """Return the lists that have not ended, by authority; the same object until one changes."""
        return self._current

    def get(self, authority_id: str) -> Crl:
        """Return the list of an authority; raises NotFound if it has none, or that has ended."""
        crl = self._current.get(authority_id)
        if crl is None:
            raise NotFound("no such revocation list")
        return crl

    def find(self, authority_id: str) -> Crl | None:
        """Return the last list of an authority that is known here, ended or not."""
        known = self._known.get(authority_id)
        return None if known is None else known[0]

    def put(self, crl: Crl, entries: int) -> None:
        """Let `crl`, which is stored, be in force, unless a newer one is; tell subscribers."""
        self._keep(crl, entries)
        self.sweep()

    async def load(self) -> None:
        """Take what is new in the table; raises StoreUnavailable."""
        numbers = {name: crl.number for name, (crl, _) in self._known.items()}
        for crl, entries in await asyncio.to_thread(self._read, numbers):
            self._keep(crl, entries)
        self.sweep()

    def _read(self, numbers: Mapping[str, int]) -> list[tuple[Crl, int]]:
        found = []
        for crl in self.crls.newer(numbers, now=self.clock.now()):
            try:
                found.append((crl, count_entries(crl.der)))
            except ValueError as error:  # a proxy would refuse it, and all that comes with it
                log.error("crl_unreadable", authority=crl.authority_id, error=str(error))
        return found

    def _keep(self, crl: Crl, entries: int) -> None:
        before = self.find(crl.authority_id)
        if before is None or before.number < crl.number:
            self._known[crl.authority_id] = crl, entries

    def sweep(self) -> None:
        """Let what has ended leave; tell subscribers of what differs."""
        now = self.clock.now()
        current = {
            name: crl for name, (crl, _) in sorted(self._known.items()) if now < crl.next_update
        }
        is_news = current != self._current
        if is_news:
            self._current = MappingProxyType(current)
        self._measure()
        if is_news:
            for callback in tuple(self._subscribers):
                callback()

    def _measure(self) -> None:
        lists, m = self._current.values(), self.metrics
        m.crl_entries.labels(KIND).set(sum(self._known[name][1] for name in self._current))
        oldest = min((crl.signed_at.timestamp() for crl in lists), default=0.0)
        m.crl_oldest.labels(KIND).set(oldest)
        soonest = min((crl.next_update.timestamp() for crl in lists), default=0.0)
        m.crl_soonest_end.labels(KIND).set(soonest)
