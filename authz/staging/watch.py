"""Watching a canary: when it denies what policy in force allows, it is taken back by itself.

    a decision -> is it a denial in a canary namespace, of what would be allowed without the canary?
        -> one more pair of peer and destination, written down for every replica
        -> so many different pairs within the window -> suspended here, and a step on record for all

Rules. Pairs are counted, not requests: one client that tries again and again is one pair. Those of
every replica count together. A database that is away does not keep a canary in force: what this
process has seen is enough, and stays enough until it is on record, however late. A canary whose
decisions nobody tells of is blind, and is said to be.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from authz.decision import Outcome
from authz.engine import decide, providers_for
from authz.policy import PolicySet, Stage
from authz.records.observed import Observed
from authz.request import Request
from authz.staging.denials import CanaryDenial, read_denials
from authz.staging.differences import last_record
from authz.staging.emergencies import Emergencies
from authz.staging.live import LiveStaging
from authz.staging.operations import StagedChanges
from authz.staging.standing import Candidate
from meshca.database import GroupWriter
from meshca.durations import format_duration
from meshca.errors import Conflict, MeshcaError
from meshca.logs import clip, get_logger

LOOK_SECONDS: Final = 1.0
SHOWN_PAIRS: Final = 100
"""Pairs that the record of a fall-back names; all of them are counted."""
BLIND_AFTER: Final = timedelta(minutes=3)
"""Without a decision for so long, and for the window, a canary is blind."""
_BLIND_LOOK: Final = timedelta(seconds=15)
_LONGEST_EXAMPLE: Final = 300

Pair = tuple[str, str]

log = get_logger("authz")


@dataclass(slots=True, kw_only=True)
class CanaryWatch:
    """Counts what a canary denies; `observe` is told of each decision, `run` is the loop.

    `threshold` different pairs within `window` take the canary back.
    """

    live: LiveStaging
    changes: StagedChanges
    emergencies: Emergencies
    writer: GroupWriter
    threshold: int
    window: timedelta
    replica: str
    is_blind: bool = False
    heard_at: datetime | None = None
    pairs: Mapping[Pair, CanaryDenial] = field(default_factory=dict)
    _seen: dict[Pair, CanaryDenial] = field(default_factory=dict)
    _written: dict[Pair, datetime] = field(default_factory=dict)
    _canary: int = 0
    _fallen: int = 0
    _looked_at: datetime | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, observed: Observed) -> None:
        """Take a decision into account, if it is one of the canary's; on the event loop."""
        staged = self._in_canary()
        if staged is None or observed.request.destination.namespace not in staged.namespaces:
            return
        self._begin(staged)
        now = self.live.clock.now()
        self.heard_at = now
        if observed.allowed or observed.decision.outcome is Outcome.CUSTOM:
            return
        if not _would_pass(self.live.without_canary(), observed.request):
            return
        pair = _pair(observed)
        if pair not in self._seen and len(self._seen) >= self.threshold:
            return  # enough to take it back
        before = self._seen.get(pair)
        self._seen[pair] = CanaryDenial(
            canary=staged.last,
            source=pair[0],
            destination=pair[1],
            at=now,
            count=observed.count + (0 if before is None else before.count),
            replica=self.replica,
            example=clip(observed.decision.reason, _LONGEST_EXAMPLE),
        )
        self._wake.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        self.live.subscribe(self._wake.set)
        while True:
            self._wake.clear()
            try:
                await self.look()
            except MeshcaError as error:
                log.warning("staging_interrupted", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()

    async def look(self) -> None:
        """Count, take the canary back if it is time, and note what has ended by itself.

        Raises StoreUnavailable; a canary that was to be taken back is then suspended.
        """
        self._count_fall()
        staged = self._in_canary()
        if staged is None:
            self.pairs, self.is_blind = {}, False
        else:
            self._begin(staged)
            await self._look_at(staged)
        self.live.metrics.canary_denied_pairs.set(len(self.pairs))
        self.live.metrics.canary_blind.set(self.is_blind)
        await self.emergencies.note_ends()

    async def _look_at(self, staged: Candidate) -> None:
        if self.live.is_suspended:  # by `pairs`, however old they are by now
            await self._fall_back(staged)
            return
        since = self.live.clock.now() - self.window
        self._seen = {pair: d for pair, d in self._seen.items() if d.at >= since}
        self._written = {pair: at for pair, at in self._written.items() if at >= since}
        self.pairs = dict(self._seen)
        if len(self.pairs) >= self.threshold:
            self.live.suspend(staged)
        await self._write()
        engine = self.live.engine
        for denial in await asyncio.to_thread(read_denials, engine, staged.last, since=since):
            known = self.pairs.get(denial.pair)
            if known is None or known.at < denial.at:
                self.pairs = {**self.pairs, denial.pair: denial}
        if len(self.pairs) >= self.threshold:
            await self._fall_back(staged)
        else:
            await self._look_for_records(staged)

    async def _fall_back(self, staged: Candidate) -> None:
        self.live.suspend(staged)
        reason = (
            f"{len(self.pairs)} pairs of peer and destination that policy in force allows "
            f"were denied within {format_duration(self.window)}"
        )
        try:
            await self.changes.fall_back(staged, reason, _details(self.pairs))
        except Conflict:
            await self.live.load()  # another replica was first, or somebody has promoted it
        self._count_fall()

    async def _write(self) -> None:
        """Write down the pairs that are new, or that were last written long ago."""
        fresh = [
            denial
            for pair, denial in self._seen.items()
            if pair not in self._written or denial.at - self._written[pair] > self.window / 2
        ]
        if fresh:
            await self.writer.submit(*fresh)
            self._written |= {denial.pair: denial.at for denial in fresh}

    async def _look_for_records(self, staged: Candidate) -> None:
        """Say whether anything is heard of the canary, from this replica or another."""
        now = self.live.clock.now()
        if self._looked_at is not None and now - self._looked_at < _BLIND_LOOK:
            return
        recorded = await asyncio.to_thread(last_record, self.live.engine, staged.namespaces)
        self._looked_at = now
        known = [time for time in (recorded, self.heard_at) if time is not None]
        self.heard_at = max(known, default=None)
        last = max(staged.since, self.heard_at or staged.since)
        self.is_blind = now - last > max(self.window, BLIND_AFTER)

    def _in_canary(self) -> Candidate | None:
        staged = self.live.staged
        in_canary = staged is not None and staged.stage is Stage.CANARY and not self.live.is_over
        return staged if in_canary else None

    def _begin(self, staged: Candidate) -> None:
        """Begin to count anew if this is another canary than before."""
        if staged.last != self._canary:
            self._canary, self.heard_at, self._looked_at = staged.last, None, None
            self._seen, self._written, self.pairs, self.is_blind = {}, {}, {}, False

    def _count_fall(self) -> None:
        staged = self.live.staged
        if staged is not None and staged.fell_back is not None and staged.last != self._fallen:
            self._fallen = staged.last
            self.live.metrics.canary_fell_back.inc()
            log.error("canary_fell_back", reason=staged.why)


def _would_pass(policies: PolicySet, request: Request) -> bool:
    answers = dict.fromkeys(providers_for(policies, request), True)
    return decide(policies, request, answers=answers).allowed


def _pair(observed: Observed) -> Pair:
    request = observed.request
    source = "" if request.source is None else str(request.source)
    if observed.destination:
        return source, observed.destination
    labels = ",".join(f"{key}={value}" for key, value in sorted(request.destination.labels))
    return source, f"{request.destination.namespace}/{labels}"


def _details(pairs: Mapping[Pair, CanaryDenial]) -> dict[str, Any]:
    shown = sorted(pairs.values(), key=lambda d: (-d.count, d.pair))[:SHOWN_PAIRS]
    return {"count": len(pairs), "pairs": [pair_json(denial) for denial in shown]}


def pair_json(denial: CanaryDenial) -> dict[str, Any]:
    """Return one pair as plain values."""
    return {
        "source": denial.source,
        "destination": denial.destination,
        "denials": denial.count,
        "example": denial.example,
    }
