"""Watching revocations take effect: pushed when, to whom, acknowledged by all of them when.

Each new revision is an effect that waits for the proxies that are connected at its push, until each
has acknowledged versions that carry it (sds/carried.py), or has left. A push costs only a copy of
the names; acknowledgements are looked at ten times a second, a few at a time, and whoever
acknowledges nothing is looked at now and then. What is known is written to the database, so that
every replica can tell the whole story, and what was not complete when the process ended is watched
again at its next start.

Not here: pushing, which needs nobody to watch. A tracker that fails holds up no revocation.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from audit.entry import Entry
from ca.revocation.effects import Effect, Effects, EffectSeen
from ca.revocation.view import RevocationView
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from sds.carried import CarriedVersions
from sds.ledger import Ledger
from sds.pending_effect import PendingEffect

LOOK_SECONDS: Final = 0.1
FIRST_SWEEP_SECONDS: Final = 0.5
LONGEST_SWEEP_SECONDS: Final = 5.0
LATE_SECONDS: Final = 30.0
"""A proxy that has not acknowledged by then lags; a list that is not there is not waited for."""
RETURN_SECONDS: Final = 15.0
"""So long proxies may take to come back after a start."""
MAXIMUM_WAITING: Final = 200_000
"""Names in all effects; with more, the next revisions become one effect, once there is room."""
_AT_ONCE: Final = 64

log = get_logger("sds")


@dataclass(frozen=True, slots=True)
class _Pushed:
    revision: int
    at: datetime


@dataclass(slots=True, kw_only=True)
class EffectTracker:
    """Every revocation that is on its way; `pushed` and `heard` say what happens, `run` watches.

    Before `is_watching`, what was pushed is known from the database only.
    """

    view: Callable[[], RevocationView]
    ledger: Ledger
    carried: CarriedVersions
    effects: Effects
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    trust_domain: str
    replica: str
    is_watching: bool = False
    _revision: int = 0
    _returning_until: float = 0.0
    _next: _Pushed | None = None
    _pending: list[PendingEffect] = field(default_factory=list)
    _touched: set[str] = field(default_factory=set)
    _sweep_at: float = 0.0
    _sweep_seconds: float = FIRST_SWEEP_SECONDS
    _work: asyncio.Event = field(default_factory=asyncio.Event)

    def pushed(self) -> None:
        """Note that proxies are about to be sent the view of now."""
        revision = self.view().revision
        if not self.is_watching:
            return
        self._sweep_soon()
        if revision > self._known():
            at = self._next.at if self._next is not None else self.clock.now()
            self._next = _Pushed(revision, at)
            self._begin()
        self._work.set()

    def heard(self, holder: str) -> None:
        """Note that `holder` has answered a push."""
        if self._pending:
            self._touched.add(holder)

    async def run(self) -> None:
        """Watch until cancelled; raises StoreUnavailable at its start."""
        await self._start()
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending or self._next is not None:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take in what has happened since the last look, and write down what is new."""
        self._begin()
        is_sweep = self.clock.monotonic() >= self._sweep_at
        for pending in tuple(self._pending):
            if is_sweep or not pending.has_failed:
                await self._prepare(pending)
        touched, self._touched = self._touched, set()
        for pending in tuple(self._pending):
            if is_sweep:
                self._take_back(pending)
                await self._look_at(pending, pending.everybody())
            else:
                await self._look_at(pending, [h for h in touched if h in pending.waiting])
            await self._write(pending, is_sweep=is_sweep)
        if is_sweep:
            self._count_behind()
            self._sweep_seconds = min(self._sweep_seconds * 2, LONGEST_SWEEP_SECONDS)
            self._sweep_at = self.clock.monotonic() + self._sweep_seconds

    async def _start(self) -> None:
        """Watch again what was not complete when the process ended."""
        if self.is_watching:
            return
        done = await asyncio.to_thread(self.effects.newest_complete, self.replica)
        self._revision, self.is_watching = done, True
        self._returning_until = self.clock.monotonic() + RETURN_SECONDS
        if self.view().revision > done:
            self._next = _Pushed(self.view().revision, self.clock.now())
            self._begin()
        self._sweep_soon()
        self._work.set()

    def _known(self) -> int:
        return self._revision if self._next is None else self._next.revision

    def _begin(self) -> None:
        """Wait for everybody who is connected, unless too many are waited for already.

        Just after a start also for those who are coming back.
        """
        push = self._next
        if push is None or sum(len(p.waiting) for p in self._pending) > MAXIMUM_WAITING:
            return
        pending = PendingEffect(
            revision=push.revision,
            after=self._revision,
            pushed_at=push.at,
            started=self.clock.monotonic(),
            trust_domain=self.trust_domain,
            joins_until=self._returning_until,
        )
        pending.join(self.ledger.holders())
        self._pending.append(pending)
        self._revision, self._next = push.revision, None

    async def _prepare(self, pending: PendingEffect) -> None:
        """Find out what it is about, and which lists say so."""
        if pending.extent is None:
            try:
                pending.extent = await asyncio.to_thread(
                    self.effects.extent, pending.after, pending.revision
                )
            except MeshcaError as error:
                pending.has_failed = True
                log.warning("effect_not_read", revision=pending.revision, error=str(error))
                return
            self._sweep_soon()
        pending.see_lists(self.view().lists)
        if self._is_late(pending) and pending.wait_for_no_list():
            self._sweep_soon()

    def _take_back(self, pending: PendingEffect) -> None:
        if self.clock.monotonic() < pending.joins_until:
            pending.join(self.ledger.holders())

    async def _look_at(self, pending: PendingEffect, holders: list[str]) -> None:
        for start in range(0, len(holders), _AT_ONCE):
            now = self.clock.now()
            for holder in holders[start : start + _AT_ONCE]:
                pending.look_at(holder, self.ledger, self.carried, now)
            await asyncio.sleep(0)

    async def _write(self, pending: PendingEffect, *, is_sweep: bool) -> None:
        """Write how far it is: at first, now and then, and when it is complete."""
        done = pending.is_complete(self.clock.monotonic())
        is_late = not done and self._is_late(pending) and not pending.is_told_late
        is_due = done or is_late or pending.written is None
        if not is_sweep and (pending.has_failed or not is_due):
            return
        now = self.clock.now()
        effect = pending.effect(self.replica, self.ledger, self.carried, now, done=done)
        if not effect.is_news_after(pending.written):
            return
        entries = [_entry(effect, pending, now, "in_force")] if done else []
        if is_late:
            entries.append(_entry(effect, pending, now, "lagging"))
        after = pending.after if pending.started < pending.joins_until else None
        try:
            await self.writer.submit(EffectSeen(effect, after), *entries)
        except MeshcaError as error:
            pending.has_failed = True
            log.warning("effect_not_written", revision=pending.revision, error=str(error))
            return
        pending.written, pending.has_failed = effect, False
        pending.is_told_late = pending.is_told_late or is_late
        if done:
            self._finish(pending, effect)
        elif is_late:
            log.warning("revocation_lags", revision=effect.revision, proxies=effect.behind_count)

    def _finish(self, pending: PendingEffect, effect: Effect) -> None:
        self._pending.remove(pending)
        took = _took(pending, effect)
        seconds = None if took is None else took.total_seconds()
        if seconds is not None:
            self.metrics.revocation_time_to_effect_seconds.observe(seconds)
        log.info(
            "revocation_in_force",
            revision=effect.revision,
            proxies=effect.acknowledged,
            left=effect.left,
            seconds=seconds,
        )
        self._count_behind()

    def _is_late(self, pending: PendingEffect) -> bool:
        return self.clock.monotonic() - pending.started >= LATE_SECONDS

    def _count_behind(self) -> None:
        behind = {h for p in self._pending if self._is_late(p) for h in p.waiting}
        self.metrics.revocation_proxies_behind.set(len(behind))

    def _sweep_soon(self) -> None:
        self._sweep_seconds = FIRST_SWEEP_SECONDS
        soon = self.clock.monotonic() + FIRST_SWEEP_SECONDS
        self._sweep_at = min(self._sweep_at, soon) if self._sweep_at else soon


def _took(pending: PendingEffect, effect: Effect) -> timedelta | None:
    """Return the time from the decision to the last acknowledgement; None without either."""
    decided = pending.extent.decided_at if pending.extent is not None else None
    if decided is None or effect.last_at is None:
        return None
    return max(effect.last_at - decided, timedelta(0))


def _entry(effect: Effect, pending: PendingEffect, now: datetime, what: str) -> Entry:
    took = _took(pending, effect)
    decisions = pending.extent.decisions if pending.extent is not None else ()
    return Entry(
        time=now,
        kind="revocation",
        outcome="done" if effect.is_complete else "failed",
        actor="meshca",
        details={
            "what": what,
            "revision": effect.revision,
            "decisions": list(decisions),
            "replica": effect.replica,
            "proxies": effect.proxies,
            "acknowledged": effect.acknowledged,
            "left": effect.left,
            "behind": effect.behind_count,
            "without_list": list(effect.unsigned),
            "milliseconds": None if took is None else took // timedelta(milliseconds=1),
        },
    )
