"""What operators have laid over policy, as this process knows it: in step with the rows and time.

    rows change, or the set in force does -> load -> overlay -> PolicyLoader.set_overlay
    something ends by time                -> lay  -> the same, from what is known

Rules. Everything is loaded before a door opens. A candidate is loaded together with what the other
sources say now; when it does not load with them it is no more on trial, and canary namespaces are
back at what is in force. A candidate that became the applied set stays until that is in force here,
however long that takes. A database that does not answer leaves what is known: what is known still
ends at its time, and a candidate that is known is still loaded with what the other sources say.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from authz.policy import PolicySet, Stage
from authz.sources import PolicyLoader
from authz.staging.events import newest_event, read_documents, read_events
from authz.staging.origin import AppliedRuns
from authz.staging.standing import (
    BypassState,
    Candidate,
    EmergencyBypass,
    Standing,
    approved_until,
    break_glass_in_force,
    next_end,
    overlay_of,
    standing_of,
    with_runs,
)
from meshca.clock import Clock
from meshca.errors import InvalidDocument, MeshcaError, Problem
from meshca.logs import get_logger
from meshca.metrics import Metrics

TICK_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5
"""How often it is looked whether something that holds has ended, for clocks that are set ahead."""
_NOTHING: Final = (0, "")

log = get_logger("authz")


@dataclass(slots=True, kw_only=True)
class LiveStaging:
    """Keeps the overlay of `loader` at what stands; `run` is its loop.

    `candidate` is the staged set, loaded, whatever its stage (for diff and replay); None when
    there is none or it does not load, and then `problems` say why.
    """

    engine: sa.Engine
    loader: PolicyLoader
    clock: Clock
    metrics: Metrics
    standing: Standing = field(default_factory=Standing)
    candidate: PolicySet | None = None
    problems: Sequence[Problem] = ()
    suspended: int = 0
    _documents: tuple[int, str] = (0, "")
    _loaded_with: tuple[int, str] = _NOTHING
    _before: tuple[PolicySet, PolicySet] | None = None
    _newest: int = -1
    _runs: AppliedRuns = field(init=False)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _subscribers: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._runs = AppliedRuns(engine=self.engine, options=self.loader.options)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after each step that was taken."""
        self._subscribers.append(callback)

    @property
    def staged(self) -> Candidate | None:
        """Return where the candidate is, if there is one."""
        return self.standing.candidate

    @property
    def is_suspended(self) -> bool:
        """Return whether the canary was taken back and that is not on record yet."""
        return self.staged is not None and self.staged.last == self.suspended

    @property
    def is_over(self) -> bool:
        """Return whether the candidate has ended, and stays until what it became is in force."""
        return self.staged is not None and self.staged.last != self.standing.last_of_stage

    def without_canary(self) -> PolicySet:
        """Return the set in force as it would be without the candidate."""
        current = self.loader.state.current
        if self._before is None or self._before[0] is not current:
            overlay = replace(current.overlay, candidate=None, canary=frozenset())
            self._before = (current, current.under(overlay))
        return self._before[1]

    def bypasses(self, state: BypassState) -> list[EmergencyBypass]:
        """Return the bypasses that are in `state` now."""
        now = self.clock.now()
        return [b for b in self.standing.bypasses.values() if b.state(now) is state]

    def suspend(self, candidate: Candidate) -> None:
        """Take the canary back in this process, before that is on record."""
        self.suspended = candidate.last
        self.lay()

    def heed(self) -> None:
        """Look again soon: somebody has taken a step, or another set is in force."""
        self._changed.set()

    async def load(self) -> None:
        """Take what stands by the rows, and lay it over policy; raises StoreUnavailable."""
        async with self._loading:
            newest = await asyncio.to_thread(newest_event, self.engine)
            standing, is_news = self.standing, newest != self._newest
            if is_news:
                events = await asyncio.to_thread(read_events, self.engine)
                standing = standing_of(events)
            if standing.applied_version > self.loader.applied_version:
                await self.loader.reload()  # first that what the candidate became is in force
            if standing.applied_version > self.loader.applied_version:
                standing, newest = replace(standing, candidate=self.staged), self._newest
            await self._load_candidate(standing.candidate)
            self.standing, self._newest = await self._with_runs(standing), newest
            self.lay()
        if is_news:
            for callback in tuple(self._subscribers):
                callback()

    async def _with_runs(self, standing: Standing) -> Standing:
        """Return `standing` with the approvals whose policies applied sets have kept since."""
        approved = approved_until(standing, self.clock.now())
        return with_runs(standing, await asyncio.to_thread(self._runs.began, approved))

    def lay(self) -> None:
        """Lay what stands now over policy; also what has ended is noticed here."""
        now = self.clock.now()
        overlay = overlay_of(self.standing, now, self.candidate, suspended=self.is_suspended)
        if self.loader.set_overlay(overlay):
            log.warning(
                "policy_overlay",
                version=self.loader.state.current.version,
                stage=None if self.staged is None else str(self.staged.stage),
                canary=sorted(overlay.canary),
                approvals=len(overlay.approvals),
                bypasses=[bypass.name for bypass in overlay.bypasses],
            )
        self.metrics.break_glass_in_force.labels("policy").set(
            len(break_glass_in_force(self.loader.state.current))
        )
        self.metrics.break_glass_in_force.labels("bypass").set(len(overlay.bypasses))
        for stage in Stage:
            is_there = self.staged is not None and self.staged.stage is stage
            self.metrics.staged_change.labels(str(stage)).set(is_there)

    async def run(self) -> None:
        """Keep in step until cancelled."""
        unsubscribe = self.loader.state.subscribe(self.heed)
        try:
            while True:
                self._changed.clear()
                try:
                    await self.load()
                except MeshcaError as error:
                    log.warning("staging_not_read", error=str(error))
                    await self._lay_known()
                await self._wait()
        finally:
            unsubscribe()

    async def _lay_known(self) -> None:
        """Lay what stood when it was last read; the candidate with what other sources say now."""
        async with self._loading:
            try:
                await self._load_candidate(self.staged)
            except MeshcaError as error:  # its text is not known either
                log.error("candidate_not_known", error=str(error))
                self.candidate, self._loaded_with = None, _NOTHING
            self.lay()

    async def _wait(self) -> None:
        """Return after a step, or after a while; meanwhile what has ended ends at its time."""
        until = self.clock.monotonic() + TICK_SECONDS
        while (left := until - self.clock.monotonic()) > 0:
            now = self.clock.now()
            end = next_end(self.standing, now)
            wait = left if end is None else min(left, LOOK_SECONDS, _seconds(end, now))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
                    return
            if end is not None and self.clock.now() >= end:
                self.lay()

    async def _load_candidate(self, staged: Candidate | None) -> None:
        """Load the candidate together with what the other sources say now."""
        while True:
            in_force = self.loader.state.current.version.partition("+")[0]
            key = (0 if staged is None else staged.number, in_force)
            if key == self._loaded_with:
                return
            self.candidate, self.problems = await self._loaded(staged)
            self._loaded_with = key

    async def _loaded(self, staged: Candidate | None) -> tuple[PolicySet | None, Sequence[Problem]]:
        if staged is None:
            return None, ()
        if self._documents[0] != staged.number:
            text = await asyncio.to_thread(read_documents, self.engine, staged.number)
            self._documents = (staged.number, text)
        try:
            return await asyncio.to_thread(self.loader.load_with, self._documents[1]), ()
        except InvalidDocument as error:
            log.error("candidate_does_not_load", candidate=staged.number, error=str(error))
            return None, error.problems

    def documents(self) -> str:
        """Return what is staged, as YAML; empty when nothing is."""
        return self._documents[1] if self.staged is not None else ""


def _seconds(end: datetime, now: datetime) -> float:
    return max(0.0, (end - now).total_seconds())
