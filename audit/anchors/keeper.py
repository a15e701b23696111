"""Taking checkpoints to every anchor, each in its own time, and saying which is behind.

Rules
- One replica does it: whoever holds the name `audit-anchors`.
- An anchor is compared with our log before anything is added to it (audit/anchors/comparison.py).
  A contradiction is an error, a metric that is 1, and an entry of kind `anchor`; nothing
  is added while it lasts. Whoever looks into it decides (docs/runbooks/audit-anchors.md).
- So is an anchor that can be read and holds less than it did, or nothing at all: somebody took it
  away. It is not begun again; another place has another name, and begins with nothing.
- A failure is tried again after a second, then less often, at least once a minute. One that
  lasts five minutes is an entry, and so is its end. What was not anchored meanwhile needs no queue:
  the newest checkpoint covers all before it.
- An anchor that hangs holds up no other, and nothing here holds up issuance or signing.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from audit.anchors.anchor import Anchor, Published
from audit.anchors.comparison import check_held, check_kept
from audit.anchors.store import AnchorState, Cosigned, read_anchor_states
from audit.checkpoints import newest_checkpoint
from audit.entry import Entry
from audit.log import Log
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import EvidenceBroken, MeshcaError, StoreUnavailable
from meshca.logs import clip, get_logger
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks

HOLDER: Final = "audit-anchors"
TICK_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0
LATE: Final = timedelta(minutes=5)
CONTRADICTED: Final = "contradicted"
UNREACHABLE: Final = "unreachable"
WELL_AGAIN: Final = "well_again"

log = get_logger("audit")


@dataclass(slots=True)
class Member:
    """An anchor, how often something is taken there, and how it stands."""

    anchor: Anchor
    every: timedelta
    state: AnchorState
    due: float = 0.0
    is_told: bool = False
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True, kw_only=True)
class AnchorKeeper:
    """Every anchor of this service; `run` is the loop."""

    origin: str
    anchors: Sequence[tuple[Anchor, timedelta]]
    log: Log
    locks: NameLocks
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    draw: random.Random = field(default_factory=random.SystemRandom)
    _members: list[Member] = field(default_factory=list)

    async def run(self) -> None:
        """Take checkpoints where they belong, until cancelled."""
        try:
            while True:
                await self.step()
                await asyncio.sleep(TICK_SECONDS)
        finally:
            self._let_go()

    async def step(self) -> None:
        """Begin what is due, if it is ours to do."""
        if not self.anchors:
            return
        try:
            if not await asyncio.to_thread(self.locks.hold, HOLDER):
                self._let_go()
                return
            if not self._members:
                await self._take_over()
        except StoreUnavailable as error:
            log.warning("anchors_wait", error=clip(str(error)))
            return
        now = self.clock.monotonic()
        for member in self._members:
            if member.due <= now and member.task is None:
                member.due = now + LONGEST_WAIT_SECONDS  # `_visit` says better
                member.task = asyncio.get_running_loop().create_task(self._visit(member))
        self._measure()

    async def settle(self) -> None:
        """Wait for what `step` began."""
        tasks = [member.task for member in self._members if member.task is not None]
        await asyncio.gather(*tasks)

    async def _take_over(self) -> None:
        states = await asyncio.to_thread(read_anchor_states, self.log.engine)
        for anchor, every in self.anchors:
            state = states.get(anchor.name, AnchorState(anchor.name))
            late = state.failing_since and self.clock.now() - state.failing_since >= LATE
            told = state.is_contradicted or bool(late)
            self._members.append(Member(anchor, every, state, is_told=told))

    def _let_go(self) -> None:
        for member in self._members:
            if member.task is not None:
                member.task.cancel()
            for gauge in (self.metrics.anchors.behind, self.metrics.anchors.contradicted):
                with contextlib.suppress(KeyError):
                    gauge.remove(member.anchor.name)
        self._members = []

    async def _visit(self, member: Member) -> None:
        """Take the newest checkpoint to one anchor; what goes wrong is in its state."""
        try:
            size = await self._publish(member)
        except EvidenceBroken as error:
            wait = await self._failed(member, str(error), is_contradicted=True)
        except MeshcaError as error:
            wait = await self._failed(member, str(error), is_contradicted=False)
        except Exception as error:  # noqa: BLE001  # outermost: whatever fails, the next try comes
            wait = await self._failed(member, repr(error), is_contradicted=False)
        else:
            wait = member.every.total_seconds()
            if size is not None:
                await self._confirmed(member, size)
        finally:
            member.task = None
        member.due = self.clock.monotonic() + wait

    async def _publish(self, member: Member) -> int | None:
        """Return the size that the anchor now holds; None if nothing was signed yet."""
        kept = await asyncio.to_thread(newest_checkpoint, self.log.engine, self.origin)
        if kept is None:
            return None
        ours, anchor = Published.parse(kept.note), member.anchor
        held = await anchor.newest()
        if held is not None:
            await asyncio.to_thread(check_held, self.log, held, anchor.name)
        if anchor.is_readable:
            check_kept(held, member.state.size, anchor.name)
        if held is not None and held.checkpoint.size >= kept.size:
            return held.checkpoint.size
        has_it = member.state.size == kept.size and not member.state.failures
        if has_it and not anchor.is_readable:
            return kept.size  # it cannot be asked
        signatures = await anchor.publish(ours)
        if signatures:
            await self.writer.submit(Cosigned(kept, tuple(signatures)))
        return kept.size

    async def _confirmed(self, member: Member, size: int) -> None:
        before, now = member.state, self.clock.now()
        member.state = AnchorState(before.name, size, now)
        records: list[object] = [member.state]
        if member.is_told:
            records.append(self._entry(member.state, WELL_AGAIN, "done"))
        if before.failures:
            log.info("anchored_again", anchor=before.name, size=size)
        await self._record(member, records, is_told=False)

    async def _failed(self, member: Member, problem: str, *, is_contradicted: bool) -> float:
        """Take note, and return how many seconds to wait."""
        before, now = member.state, self.clock.now()
        since = before.failing_since or now
        member.state = replace(
            before,
            failures=before.failures + 1,
            failing_since=since,
            problem=clip(problem),
            is_contradicted=is_contradicted,
        )
        self.metrics.anchors.failures.labels(before.name).inc()
        is_new = is_contradicted and not before.is_contradicted
        level = log.error if is_contradicted else log.warning
        level("not_anchored", anchor=before.name, error=clip(problem), attempt=before.failures + 1)
        records: list[object] = [member.state]
        if is_new or (not member.is_told and now - since >= LATE):
            reason = CONTRADICTED if is_contradicted else UNREACHABLE
            records.append(self._entry(member.state, reason, "failed"))
        await self._record(member, records, is_told=member.is_told or len(records) > 1)
        longest = min(2.0 ** min(before.failures, 20), LONGEST_WAIT_SECONDS)
        return longest * (0.5 + 0.5 * self.draw.random())

    async def _record(self, member: Member, records: list[object], *, is_told: bool) -> None:
        """Write `records`; a database that is away keeps nothing from being tried again."""
        try:
            await self.writer.submit(*records)
        except MeshcaError as error:
            log.warning("anchor_not_recorded", anchor=member.anchor.name, error=clip(str(error)))
        else:
            member.is_told = is_told

    def _entry(self, state: AnchorState, reason: str, outcome: str) -> Entry:
        since = state.failing_since.isoformat() if state.failing_since else ""
        return Entry(
            time=self.clock.now(),
            kind="anchor",
            outcome=outcome,
            actor="meshca",
            reason=reason,
            details={
                "anchor": state.name,
                "size": state.size,
                "problem": state.problem,
                "since": since,
            },
        )

    def _measure(self) -> None:
        for member in self._members:
            state = member.state
            since = state.failing_since
            behind = (self.clock.now() - since).total_seconds() if since else 0.0
            self.metrics.anchors.behind.labels(state.name).set(behind)
            self.metrics.anchors.contradicted.labels(state.name).set(state.is_contradicted)
