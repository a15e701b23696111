"""Revocation lists: signed where we hold the key, stored, and then in force on every replica.

A list is signed when its authority has none, when somebody was revoked or released, when a third of
its validity has passed, when the clock was set back behind its beginning, and each hour if entries
have ended. It is numbered, signed, stored, and only then told: who asks here or is called back sees
what is durable. A list that cannot be made leaves the one before it in force, is shown in
`problems`, counted, and tried again.

Signing starts at once when nothing was signed just before; after a list its authority rests for a
few times what that took, so that a flood of revocations makes a few lists and not one a batch. Each
authority has a task of its own, and signs in threads of our own: a signer that hangs holds up
nobody else. Not here: what is revoked (state.py), and who is sent a list.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

import sqlalchemy as sa

from ca.authority import Authority
from ca.crl import crl_fields
from ca.revocation.crl_store import Crls, CrlSigned
from ca.revocation.list_entries import ListEntries, newest_revisions
from ca.revocation.lists_in_force import KIND, ListsInForce
from ca.revocation.state import RevocationState
from ca.revocation.view import Crl
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, MeshcaError
from meshca.logs import clip, get_logger
from meshca.metrics import Metrics

SKEW: Final = timedelta(minutes=5)
RENEWED_AFTER: Final = 1 / 3
TIDIED_AFTER: Final = timedelta(hours=1)
TICK_SECONDS: Final = 5.0
UNHELD_SECONDS: Final = 30.0
FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 15.0
CONFLICT_SECONDS: Final = 0.25
REST: Final = 4.0
LONGEST_REST_SECONDS: Final = 2.0
SIGNERS: Final = 4
_T = TypeVar("_T")

log = get_logger("ca")


def _threads() -> Executor:
    return ThreadPoolExecutor(SIGNERS, thread_name_prefix="crl")


@dataclass(slots=True, eq=False)
class _Desk:
    """Where the lists of one authority are made.

    `entries` are those of its list `number`; 0 while they are those of none that is in force. They
    were compared with the state when it was as `seen`; some that are on the list may have ended
    since. `due` is a reading of the monotonic clock.
    """

    authority: Authority
    entries: ListEntries = field(default_factory=ListEntries)
    number: int = 0
    seen: tuple[int, int] = (-1, -1)
    seen_at: datetime | None = None
    has_ended: bool = False
    due: float = 0.0
    failures: int = 0
    problem: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: "asyncio.Task[None] | None" = None

    @property
    def is_busy(self) -> bool:
        """Return whether a list is being made."""
        return self.lock.locked() or (self.task is not None and not self.task.done())


@dataclass(slots=True, kw_only=True)
class RevocationLists:
    """The list of every authority; `signers` are those this process may sign for."""

    state: RevocationState
    signers: Callable[[], Iterable[Authority]]
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    draw: random.Random = field(default_factory=random.SystemRandom)
    _in_force: ListsInForce = field(init=False)
    _desks: dict[str, _Desk] = field(default_factory=dict)
    _waited: dict[str, float] = field(default_factory=dict)
    _unheld: dict[str, str] = field(default_factory=dict)
    _news: int = 0
    _is_stale: bool = False
    _looked_at: float | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _executor: Executor = field(default_factory=_threads)

    def __post_init__(self) -> None:
        crls = Crls(self.engine)
        self._in_force = ListsInForce(crls=crls, clock=self.clock, metrics=self.metrics)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop whenever `current` has changed."""
        self._in_force.subscribe(callback)

    def current(self) -> Mapping[str, Crl]:
        """Return the lists that have not ended, by authority; the same object until one changes."""
        return self._in_force.current()

    def get(self, authority_id: str) -> Crl:
        """Return the list of an authority; raises NotFound if it has none, or that has ended."""
        return self._in_force.get(authority_id)

    @property
    def problems(self) -> dict[str, str]:
        """Return what is wrong with the list of each authority that does not say what it should."""
        failed = {name: desk.problem for name, desk in self._desks.items() if desk.problem}
        return {**self._unheld, **failed}

    async def load(self) -> None:
        """Read the lists that are in force; raises StoreUnavailable."""
        await self._in_force.load()

    def heed(self) -> None:
        """Read the table again soon: somebody has signed a list."""
        self._is_stale = True
        self._woken.set()

    def wake(self) -> None:
        """See soon what is to be signed: somebody was revoked, or there is another authority."""
        self._news += 1  # what is revoked may be another at the same revision, of another time
        self._woken.set()

    async def ensure(self, authority: Authority) -> None:
        """Sign the first list of `authority` and return once it is in force.

        Raises what its signer raises, and StoreUnavailable.
        """
        name = authority.authority_id
        desk = self._desk(authority)
        async with desk.lock:
            with contextlib.suppress(Conflict):  # somebody else did, and it was read
                if name not in self.current():
                    await self._make(desk)
        self.get(name)

    async def run(self) -> None:
        """Sign what is to be signed until cancelled."""
        try:
            while True:
                self._woken.clear()
                wait = self._start_due()
                await self._read_again()
                await self._look_round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
        finally:
            for desk in self._desks.values():
                if desk.task is not None:
                    desk.task.cancel()

    def _desk(self, authority: Authority) -> _Desk:
        desk = self._desks.setdefault(authority.authority_id, _Desk(authority))
        desk.authority = authority  # it may have a new certificate
        return desk

    def _start_due(self) -> float:
        """Start on every list that is due; return in how many seconds to look again."""
        at, now, wait = self.clock.now(), self.clock.monotonic(), TICK_SECONDS
        held = {a.authority_id: a for a in self.signers() if a.not_before <= at < a.not_after}
        for name in self._desks.keys() - held.keys():
            if not self._desks[name].is_busy:
                del self._desks[name]
        for authority in held.values():
            desk = self._desk(authority)
            if desk.is_busy or not self._is_wanted(desk):
                continue
            if desk.due > now:
                wait = min(wait, desk.due - now)
            else:
                desk.task = asyncio.get_running_loop().create_task(self._work(desk))
        return wait

    def _is_wanted(self, desk: _Desk) -> bool:
        """Return whether the list of `desk` must be signed, or compared with the state."""
        now, crl = self.clock.now(), self._in_force.find(desk.authority.authority_id)
        is_compared = (
            crl is not None
            and desk.number == crl.number
            and desk.seen == (self.state.revision, self._news)
            and desk.seen_at is not None
            and timedelta(0) <= now - desk.seen_at < TIDIED_AFTER
        )
        return not is_compared or self._must(desk, crl, now)

    def _must(self, desk: _Desk, crl: Crl | None, now: datetime) -> bool:
        """Return whether a list must be signed, whatever a comparison says."""
        if crl is None:
            return True
        if desk.number != crl.number and self.state.revision > crl.revision:
            return True  # what it says is not known here, and something has happened since
        fresh = crl_fields(desk.authority, number=crl.number + 1, now=now)
        if crl.this_update > max(now - SKEW, fresh.this_update):
            return True  # the clock was set back: for some verifier it has not begun
        renewal = crl.signed_at + (crl.next_update - crl.signed_at) * RENEWED_AFTER
        return now >= renewal and fresh.next_update > crl.next_update

    async def _work(self, desk: _Desk) -> None:
        """Make one list; what goes wrong is noted, and tried again."""
        started = self.clock.monotonic()
        try:
            async with desk.lock:
                is_made = await self._make(desk)
        except Conflict as error:
            desk.due = self.clock.monotonic() + CONFLICT_SECONDS
            log.info("crl_conflict", authority=desk.authority.authority_id, error=str(error))
        except MeshcaError as error:
            self._note_failure(desk, str(error))
        except Exception as error:  # noqa: BLE001  # outermost: whatever fails, the next try comes
            self._note_failure(desk, repr(error))
        else:
            ended = self.clock.monotonic()
            rest = min(REST * (ended - started), LONGEST_REST_SECONDS) if is_made else 0.0
            desk.due = ended + rest
        finally:
            self._woken.set()

    async def _make(self, desk: _Desk) -> bool:
        """Sign the list of `desk` if it must be, or if it would say something new.

        Compared and signed in one turn of a thread: what is revoked waits for each turn.
        """
        now, authority = self.clock.now(), desk.authority
        before = self._in_force.find(authority.authority_id)
        must = self._must(desk, before, now)
        is_known = before is not None and desk.number == before.number
        is_old = before is not None and now - before.signed_at >= TIDIED_AFTER
        revision, news = self.state.revision, self._news
        revoked = dict(self.state.of_authority(authority.authority_id))
        with self._counted("store"):
            number = 1 + await self._last_number(authority.authority_id, before)

        def look() -> Crl | None:
            found = desk.entries.take(revoked, now)
            desk.has_ended = desk.has_ended or found.ended
            if not must and not (is_known and (found.is_news or (desk.has_ended and is_old))):
                return None
            desk.number = 0
            with self._counted("sign"):
                return desk.entries.sign(authority, number=number, revision=revision, now=now)

        made = await self._in_thread(look)
        if made is not None:
            await self._put_in_force(desk, made)
        crl = made or before
        assert crl is not None  # noqa: S101  # without one there must be one
        desk.number, desk.seen, desk.seen_at = crl.number, (revision, news), now
        desk.failures, desk.problem = 0, ""
        return made is not None

    async def _put_in_force(self, desk: _Desk, crl: Crl) -> None:
        with self._counted("store"):
            await self._store(crl)
        desk.has_ended = False
        entries = len(desk.entries)
        self._in_force.put(crl, entries)
        log.info("crl_signed", authority=crl.authority_id, number=crl.number, entries=entries)

    async def _last_number(self, name: str, before: Crl | None) -> int:
        if before is not None:
            return before.number
        return await asyncio.to_thread(self._in_force.crls.number, name)

    async def _store(self, crl: Crl) -> None:
        try:
            await self.writer.submit(CrlSigned(crl))
        except Conflict:
            await self.load()
            raise

    @contextlib.contextmanager
    def _counted(self, step: str) -> Iterator[None]:
        try:
            yield
        except Conflict:
            raise
        except Exception:
            self.metrics.crl_failures.labels(KIND, step).inc()
            raise

    def _note_failure(self, desk: _Desk, error: str) -> None:
        desk.failures += 1
        longest = min(FIRST_RETRY_SECONDS * 2.0**desk.failures, LONGEST_RETRY_SECONDS)
        desk.due = self.clock.monotonic() + longest * (0.5 + 0.5 * self.draw.random())
        crl = self._in_force.find(desk.authority.authority_id)
        old = "there is none" if crl is None else f"list {crl.number} stays in force"
        desk.problem = f"its revocation list cannot be made, {old}: {clip(error)}"
        log.error(
            "crl_not_made",
            authority=desk.authority.authority_id,
            error=clip(error),
            failures=desk.failures,
        )

    async def _read_again(self) -> None:
        """Read the table if somebody has said so."""
        if not self._is_stale:
            return
        self._is_stale = False
        try:
            await self.load()
        except MeshcaError as error:
            self._is_stale = True
            log.warning("crls_not_read", error=str(error))

    async def _look_round(self) -> None:
        """Let ended lists go, and find those that nobody signs any more; now and then."""
        now = self.clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < TICK_SECONDS:
            return
        self._looked_at = now
        self._in_force.sweep()
        newest = await asyncio.to_thread(newest_revisions, tuple(self.state.live().values()))
        waited, unheld = {}, {}
        for name, revision in newest.items():
            crl = self._in_force.find(name)
            if name in self._desks or (crl is not None and crl.revision >= revision):
                continue
            waited[name] = since = self._waited.get(name, now)
            if now - since >= UNHELD_SECONDS:
                unheld[name] = _unheld_words(self.current().get(name))
        for name in unheld.keys() - self._unheld.keys():
            log.error("crl_unheld", authority=name, hint=unheld[name])
        self._waited, self._unheld = waited, unheld
        behind = self.metrics.crl_behind
        behind.labels(KIND, "failed").set(sum(1 for desk in self._desks.values() if desk.problem))
        behind.labels(KIND, "unheld").set(len(unheld))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _unheld_words(crl: Crl | None) -> str:
    until = "it has no list" if crl is None else f"its list ends at {crl.next_update.isoformat()}"
    return (
        "nobody who has its key signs its revocation list: what was revoked under it since is "
        f"enforced by name only ({until})"
    )
