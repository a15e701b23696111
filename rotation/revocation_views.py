"""What is pushed of revocation: the lists of every authority, those above, and who is revoked.

Rules
- The list of each authority is pushed from before it signs until it has ended, by every replica.
- The list of a tainted authority is left out once no connected workload has a leaf of it: an Envoy
  that has lists refuses every leaf whose issuer has none, and so also what a thief signs.
- The lists of the CAs above are pushed only together: one of each.
- Who is revoked and the list that says so are pushed together if the list is there at once: two
  passes over every proxy take twice as long as one. A list that takes longer is not waited for.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ca.authority import Authority
from ca.revocation.state import RevocationState
from ca.revocation.view import NOTHING_REVOKED, Crl, RevocationView

LIST_WAITED_FOR_SECONDS: Final = 0.03
"""How long what is revoked waits for the list that says so; a local key signs in a few ms."""


class Lists(Protocol):
    """The revocation lists of our authorities, of every replica."""

    def current(self) -> Mapping[str, Crl]:
        """Return the list of each authority that has one, by id."""
        ...

    async def ensure(self, authority: Authority) -> None:
        """Have a first list of `authority`, stored; raises MeshcaError."""
        ...


@dataclass(slots=True, kw_only=True)
class RevocationViews:
    """The one view that is pushed now; `refresh` after anything that it is made of has changed."""

    lists: Lists
    state: RevocationState
    _left_out: frozenset[str] = frozenset()
    _upper: bytes | None = None
    _current: RevocationView = NOTHING_REVOKED
    _subscribers: list[Callable[[], None]] = field(default_factory=list)
    _waiting: asyncio.TimerHandle | None = None

    def current(self) -> RevocationView:
        """Return the view: the same object until something changes."""
        return self._current

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after each change."""
        self._subscribers.append(callback)

    def leave_out(self, authority_ids: frozenset[str]) -> None:
        """Push no list of `authority_ids` from now on, and of all others again."""
        if authority_ids != self._left_out:
            self._left_out = authority_ids
            self.refresh()

    def set_upper(self, upper: bytes | None) -> None:
        """Push `upper`, the PEM of the lists of every CA above, or none of them."""
        if upper != self._upper:
            self._upper = upper
            self.refresh()

    def refresh_soon(self) -> None:
        """Make the view anew with the next list, and without it when that takes too long."""
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(LIST_WAITED_FOR_SECONDS, self.refresh)

    def refresh(self) -> None:
        """Make the view anew, and tell subscribers if it is another."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        current = self.lists.current()
        lists = tuple(current[name] for name in sorted(current) if name not in self._left_out)
        before, revoked = self._current, self.state.digests()
        if before.lists and not lists:
            lists = before.lists  # our clock is wrong: without any list, everybody would be let in
        if (
            lists == before.lists
            and self._upper == before.upper
            and revoked is before.revoked
            and self.state.revision == before.revision
        ):
            return
        self._current = RevocationView(self.state.revision, lists, self._upper, revoked)
        for callback in tuple(self._subscribers):
            callback()
