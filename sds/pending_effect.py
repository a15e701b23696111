"""One revocation on its way to the proxies that were connected when it was pushed.

It knows whom it waits for, and is told what is known of each. Pure but for the sessions it reads.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from ca.revocation.effects import MAXIMUM_NAMED, Behind, Effect, Extent, SignedList
from ca.revocation.view import Crl
from meshca.logs import clip
from sds.carried import CarriedVersions
from sds.ledger import Ledger
from sds.standing import Standing, Wants, standing


@dataclass(slots=True, kw_only=True)
class PendingEffect:
    """The effect of everything that was revoked after `after` until `revision`.

    `has_failed`: the database did not take it lately. `started` is a reading of the monotonic
    clock. `joins_until`, of the same, is soon after the start of the process: until then
    whoever comes back counts.
    """

    revision: int
    after: int
    pushed_at: datetime
    started: float
    trust_domain: str
    joins_until: float = 0.0
    extent: Extent | None = None
    waiting: set[str] = field(default_factory=set)
    is_told_late: bool = False
    has_failed: bool = False
    written: Effect | None = None
    _seen: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)
    _acknowledged: int = 0
    _handshakes_at: datetime | None = None
    _requests_at: datetime | None = None
    _without_list: int = 0
    _without_filter: int = 0
    _lists: dict[str, SignedList] = field(default_factory=dict)
    _left_out: set[str] = field(default_factory=set)
    _unsigned: set[str] = field(default_factory=set)

    def join(self, holders: Iterable[str]) -> None:
        """Wait for `holders`, unless they were waited for before."""
        fresh = set(holders) - self._seen
        self._seen |= fresh
        self.waiting |= fresh

    def is_complete(self, monotonic: float) -> bool:
        """Return whether all have it, and nobody is expected back."""
        is_known = self.extent is not None and not self._missing_lists()
        return is_known and not self.waiting and monotonic >= self.joins_until

    def see_lists(self, lists: Iterable[Crl]) -> None:
        """Note the first list of each authority that says it.

        An authority without a list is refused as a whole, once its list is gone from contexts.
        """
        if self.extent is None:
            return
        current = {crl.authority_id: crl for crl in lists}
        for name in self._missing_lists():
            crl = current.get(name)
            if crl is not None and crl.revision >= self.extent.authorities[name]:
                self._lists[name] = SignedList(name, crl.number, crl.signed_at)
        self._left_out |= {name for name in self._missing_lists() if name not in current}

    def wait_for_no_list(self) -> bool:
        """Wait no longer for lists that did not come; return whether there are any."""
        missing = self._missing_lists()
        self._unsigned |= missing
        return bool(missing)

    def look_at(self, holder: str, ledger: Ledger, carried: CarriedVersions, now: datetime) -> None:
        """Take note of what `holder` has, or that it has left or is back."""
        sessions = ledger.sessions_of(holder)
        if holder in self._left and sessions:
            self._left.discard(holder)
            self.waiting.add(holder)
        if holder not in self.waiting:
            return
        if not sessions:
            self.waiting.discard(holder)
            self._left.add(holder)
            return
        found = standing(sessions, self._wants(), carried)
        if found.has_all and self.extent is not None:
            self.waiting.discard(holder)
            self._note(found, now)

    def everybody(self) -> list[str]:
        """Return whom to look at now and then: who is waited for, and who may come back."""
        return [*self.waiting, *self._left]

    def effect(
        self, replica: str, ledger: Ledger, carried: CarriedVersions, now: datetime, *, done: bool
    ) -> Effect:
        """Return how far it is; names as many proxies that are behind as fit."""
        behind = () if done else tuple(islice(self._behind(ledger, carried), MAXIMUM_NAMED))
        return Effect(
            revision=self.revision,
            replica=replica,
            pushed_at=self.pushed_at,
            seen_at=now,
            proxies=len(self._seen),
            acknowledged=self._acknowledged,
            left=len(self._left),
            handshakes_at=self._handshakes_at,
            requests_at=self._requests_at,
            without_list=self._without_list,
            without_filter=self._without_filter,
            lists=tuple(self._lists[name] for name in sorted(self._lists)),
            unsigned=tuple(sorted(self._unsigned)),
            behind=behind,
            behind_count=len(self.waiting),
            is_complete=done,
        )

    def _wants(self) -> Wants:
        lists: Mapping[str, int] | None = None
        if self.extent is not None:
            wanted = self.extent.authorities.items()
            lists = {name: revision for name, revision in wanted if name not in self._unsigned}
        return Wants(self.revision, lists, self.trust_domain)

    def _missing_lists(self) -> set[str]:
        """Return the authorities whose list is waited for."""
        wanted = self.extent.authorities if self.extent is not None else {}
        return wanted.keys() - self._lists.keys() - self._left_out - self._unsigned

    def _note(self, found: Standing, now: datetime) -> None:
        listed, filtered = found.listed, found.filtered
        if listed.follows:
            self._handshakes_at = self._later(self._handshakes_at, listed.at or now)
        else:
            self._without_list += 1
        if filtered.follows:
            self._requests_at = self._later(self._requests_at, filtered.at or now)
        else:
            self._without_filter += 1
        self._acknowledged += 1

    def _later(self, known: datetime | None, at: datetime) -> datetime:
        """Return the last time; what was acknowledged before the push counts from the push."""
        return max(known or self.pushed_at, at)

    def _behind(self, ledger: Ledger, carried: CarriedVersions) -> Iterator[Behind]:
        for holder in sorted(self.waiting):
            sessions = ledger.sessions_of(holder)
            if not sessions:
                continue
            found = standing(sessions, self._wants(), carried)
            first = min(sessions, key=lambda session: session.connected_at)
            yield Behind(
                str(first.caller.spiffe_id),
                first.caller.evidence.pod_name,
                max(self.pushed_at, first.connected_at),
                found.lacks,
                clip(found.nack, 256),
            )
