"""This replica's intermediates: asked of the upstream, stepped through their stages, watched.

What is to be done is decided by `rotation.stages.next_step`; here it is done. Each step is one
transaction with its audit entry, and what this process signs with is then read off the table: a
step of another process, an operator's, or one before a crash takes effect the same way. An upstream
that cannot give a fresh intermediate (files) is watched instead: the warnings grow louder as the
end comes nearer.

Keys live in memory, unless there is a `KeyAtRest` to wrap them for the table.
"""

import asyncio
import contextlib
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from cryptography import x509

from ca.authority import Authorities
from ca.upstream.chain import is_issued_by
from ca.upstream.provision import Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.durations import format_duration
from meshca.errors import AuthorityUnavailable, Conflict, MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.authority_watch import AuthorityWatch
from rotation.custody import Custody
from rotation.fact_finding import FactFinding
from rotation.gates import Gates
from rotation.issuer_revocation import IssuerRevocation
from rotation.leaves import Leaves
from rotation.membership import Membership
from rotation.preparation import Preparation
from rotation.replicas import Report, Waiting
from rotation.revocation_views import RevocationViews
from rotation.schedule import retry_delay
from rotation.stages import Stage, abandoned_step, next_step, waits_for
from rotation.standings import Row, Standings
from rotation.steps import Steps
from rotation.trust import Trust

TICK_SECONDS: Final = 5.0
HURRY_SECONDS: Final = 0.1
"""How often it looks while nothing signs."""
SETTLING_SECONDS: Final = 0.5
"""How often it looks while who signs is not known to everybody."""
SETTLES_WITHIN: Final = timedelta(seconds=30)
"""How long workloads that have a certificate keep it, at most, when nobody knows who signs now."""
AFTER_REPLACEMENT: Final = timedelta(seconds=15)
"""How long a tainted authority's list is pushed at least: until its leaves are not shown."""
ROOTS_EVERY_SECONDS: Final = 30.0
_MOST_STEPS: Final = 64
_LOOKS_AT_START: Final = 100

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Intermediates:
    """Keeps `authorities` supplied by `upstream`."""

    upstream: Upstream
    authorities: Authorities
    trust: Trust
    standings: Standings
    leaves: Leaves
    preparation: Preparation
    steps: Steps
    at_issuer: IssuerRevocation
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    custody: Custody
    watch: AuthorityWatch
    members: Membership
    gates: Gates
    views: RevocationViews
    known: FactFinding
    settling: timedelta = SETTLES_WITHIN
    draw: random.Random = field(default_factory=random.SystemRandom)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _failures: int = 0
    _not_before: float = -math.inf
    _error: MeshcaError | None = None
    _asked_roots_at: float = -math.inf
    _settling: str = ""
    _settling_until: float = -math.inf
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tainted: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self) -> None:
        """Have a name and an active authority.

        Raises AuthorityUnavailable, saying what is wrong; Conflict when another process has our
        name.
        """
        await self.members.join()
        async with self.stepping():
            await self._bar_tainted()
            await self.trust.load()
            self.views.refresh()
            roots = {root.root_sha256: root.certificate for root in self.trust.known}
            await asyncio.to_thread(self.custody.recover, await self.rows(), roots)
            if not self.upstream.can_renew:
                await self.preparation.prepare("loaded at start")
            await self.settle()
            await self._wait_for_proxies()
            if self.signing() not in self.custody.held and self._error is not None:
                raise self._error
        self.authorities.active(self.clock.now())
        self.watch.look(self.clock.now())

    async def _wait_for_proxies(self) -> None:
        """Let those of other replicas have what verifies our first authority: a few seconds."""
        for _ in range(_LOOKS_AT_START):
            if self.signing() or self._error is not None:
                return
            await asyncio.sleep(HURRY_SECONDS)
            await self.step_roots()
            await self.settle()

    async def run(self) -> None:
        """Take the steps that are due, watch the upstream, measure; until cancelled."""
        while True:
            self._changed.clear()
            await self.tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()

    def _pause(self) -> float:
        if not self.signing():
            return HURRY_SECONDS
        return SETTLING_SECONDS if self.is_settling() else TICK_SECONDS

    def is_settling(self) -> bool:
        """Return whether what signs may not be known to every workload yet, and soon will be."""
        return bool(self._settling) and self.clock.monotonic() < self._settling_until

    async def _settle_down(self) -> None:
        """See whether every workload knows by now what signs."""
        if self.is_settling() and not await self.gates.missing(self._settling):
            self._settling = ""

    def heed(self) -> None:
        """Look again soon: somebody has changed an authority, a root, or what a replica reports."""
        self._changed.set()
        self._tainted.set()

    async def run_bars(self) -> None:
        """Let no tainted authority sign here, whoever tainted it; until cancelled.

        A loop of its own: the other may be waiting for the upstream.
        """
        while True:
            self._tainted.clear()
            try:
                await self._bar_tainted()
            except MeshcaError as error:
                log.warning("taints_not_read", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._tainted.wait()

    async def _bar_tainted(self) -> None:
        for name in await asyncio.to_thread(self.standings.barred):
            self.authorities.bar(name)

    async def tick(self) -> None:
        """Do what is due now."""
        if self.clock.monotonic() >= self._not_before:
            try:
                async with self.stepping():
                    await self._ask_for_roots()
                    await self.step_roots()
                    await self.advance()
                    await self._settle_down()
                    if self.trust.retiring:
                        await self.step_roots()  # what has just ended may have been the last
                if self.members.is_leader:
                    await self.at_issuer.look()
                self._failures, self._not_before, self._error = 0, -math.inf, None
            except Conflict as error:  # another replica was faster
                log.info("looking_again", why=str(error))  # its change makes us look again
            except MeshcaError as error:
                self._failed(error)
        self.watch.look(self.clock.now())

    @contextlib.asynccontextmanager
    async def stepping(self) -> AsyncIterator[None]:
        """Hold everybody else off while steps are taken, and have our name.

        Raises AuthorityUnavailable when another process has it, and signs nothing then: the
        authorities under that name are its own. Raises StoreUnavailable.
        """
        async with self.lock:
            try:
                await self.members.keep_name()
            except AuthorityUnavailable:
                self.authorities.stop(self.signing())
                raise
            yield

    async def step_roots(self) -> None:
        """Measure and report how far roots are; if we lead, take the steps that are due."""
        await self.trust.load()
        rows = await asyncio.to_thread(self.standings.of, with_ended=False)
        listed = self.views.lists.current().keys()
        long_ago = self.clock.now() - SETTLES_WITHIN
        names = [
            s.authority_id
            for s in (row.standing for row in rows)
            if s.stage is Stage.PUBLISHED or (s.stage is Stage.ACTIVE and s.since > long_ago)
            if s.authority_id in listed
        ]
        waiting = await self.gates.observe([*self.trust.announced, *names])
        await self.members.report(self._report(waiting))
        self.views.leave_out(self._left_out(rows))
        if self.members.is_leader:
            await self.members.forget_gone()
            await self.trust.step()
            await self._end_abandoned()

    def _left_out(self, rows: Sequence[Row]) -> frozenset[str]:
        """Return the tainted authorities of which no connected workload has a leaf any more."""
        held = {c.svid.authority_id for c in self.leaves.credentials()}
        held |= {name for other in self.members.others for name in other.report.leaves}
        long_ago = self.clock.now() - AFTER_REPLACEMENT
        being_replaced = {
            s.authority_id
            for s in (row.standing for row in rows)
            if s.stage is Stage.TAINTED and (s.authority_id in held or s.since > long_ago)
        }
        return self.authorities.barred - being_replaced

    def _report(self, waiting: Mapping[str, Waiting]) -> Report:
        held = Counter(c.svid.authority_id for c in self.leaves.credentials())
        return Report(self.signing(), dict(held), waiting)

    async def _end_abandoned(self) -> None:
        """End the authorities of replicas that are not there any more."""
        for _ in range(_MOST_STEPS):
            unended = await asyncio.to_thread(self.standings.of, with_ended=False)
            # Read afterwards: a replica is a member before it prepares anything.
            present = await self.members.names()
            rows = [row for row in unended if row.standing.replica not in present]
            if not rows:
                return
            kept = frozenset(r.standing.authority_id for r in rows if r.key is not None)
            facts = replace(await self.known.facts(rows), held=kept)
            step = abandoned_step([r.standing for r in rows], facts, self.clock.now())
            if step is None:
                return
            await self.steps.take(step, rows)

    async def waiting(self) -> dict[str, str]:
        """Return what each of this replica's authorities waits for, by id."""
        rows = await self.rows()
        facts = await self.known.facts(rows)
        return waits_for([row.standing for row in rows], facts, self.clock.now())

    async def rows(self) -> list[Row]:
        return await asyncio.to_thread(self.standings.of, self.replica, with_ended=False)

    async def advance(self) -> None:
        """Take steps until none is due, and let this process sign with what the table says."""
        for _ in range(_MOST_STEPS):
            rows = await self.rows()
            self._apply(rows)
            self._renew_what_must_go(rows)
            facts, now = await self.known.facts(rows), self.clock.now()
            step = next_step([row.standing for row in rows], facts, now)
            if step is None:
                return
            if step.stage is Stage.PREPARED:
                await self.preparation.prepare(step.reason)
            else:
                await self.steps.take(step, rows)
        raise AuthorityUnavailable(f"the steps of authorities do not end after {_MOST_STEPS}")

    async def settle(self) -> None:
        """Advance after a step that was taken; what fails then is tried again by `run`."""
        self._apply(await self.rows())
        try:
            await self.advance()
        except MeshcaError as error:
            self._failed(error)

    def _apply(self, rows: Sequence[Row]) -> None:
        """Sign with the authority that the table calls active; with none, if it calls none so."""
        now = self.clock.now()
        active = [
            r.standing
            for r in rows
            if r.standing.stage is Stage.ACTIVE
            and r.standing.authority_id in self.custody.held
            and r.root_sha256 in self.trust.in_bundle
            and r.standing.lives(now)
            and not self.authorities.is_barred(r.standing.authority_id)  # whatever the table says
        ]
        wanted = max(active, key=lambda s: s.not_after, default=None)
        may_sign = {r.standing.authority_id for r in rows if r.standing.stage is not Stage.TAINTED}
        self.custody.keep_only(may_sign)
        for row in rows:
            if row.standing.stage in (Stage.TAINTED, Stage.REVOKED):
                self.authorities.bar(row.standing.authority_id)
            if wanted is None or row.standing.authority_id != wanted.authority_id:
                self.authorities.stop(row.standing.authority_id)
        if wanted is not None and self.signing() != wanted.authority_id:
            authority = self.custody.held[wanted.authority_id]
            self.authorities.activate(authority, self.authorities.bundle.roots)
            self._settling = authority.authority_id
            self._settling_until = self.clock.monotonic() + self.settling.total_seconds()
            log.info(
                "authority_active",
                authority=authority.authority_id,
                not_after=authority.not_after.isoformat(),
                remaining=format_duration(authority.not_after - now),
            )
        self.authorities.show_bridges(self._bridges())

    @property
    def replica(self) -> str:
        """Return the name of this replica."""
        return self.members.name

    @property
    def problem(self) -> str:
        """Return why the last look failed; empty when it did not."""
        return "" if self._error is None else str(self._error)

    def signing(self) -> str:
        """Return the id of the authority that signs now; empty when none does."""
        return self.authorities.signing(self.clock.now())

    def _bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the cross-signed roots by which those verify us who only have another root.

        One for each other root of the bundle, the one that lives longest.
        """
        signing = self.custody.held.get(self.signing())
        others = [r.certificate for r in self.trust.known if r.root_sha256 in self.trust.signing]
        if signing is None or len(others) < 2:
            return ()
        ours = [
            bridge
            for bridge in sorted(self.upstream.bridges(), key=lambda b: b.not_valid_after_utc)
            if bridge.subject == signing.root.subject
            and bridge.public_key() == signing.root.public_key()
        ]
        best = {root: b for b in ours for root in others if is_issued_by(b, root)}
        return tuple(best[root] for root in others if root in best and root != signing.root)

    def _renew_what_must_go(self, rows: Sequence[Row]) -> None:
        """Replace the leaves under authorities that are tainted, or whose root is leaving."""
        retiring = self.trust.retiring
        for row in rows:
            s = row.standing
            must_go = s.stage is Stage.TAINTED or (
                row.root_sha256 in retiring and s.stage is Stage.RETIRING
            )
            if must_go and self.signing() not in ("", s.authority_id):
                count = self.leaves.renew_under(s.authority_id)
                if count:
                    log.warning("leaves_replaced", authority=s.authority_id, leaves=count)

    async def _ask_for_roots(self) -> None:
        """Look, every half minute, whether the upstream has a root that is not known yet."""
        if self.clock.monotonic() - self._asked_roots_at < ROOTS_EVERY_SECONDS:
            return
        self._asked_roots_at = self.clock.monotonic()
        try:
            offered = await asyncio.to_thread(self.upstream.roots, self.clock.now())
        except AuthorityUnavailable as error:
            log.warning("roots_not_asked", error=str(error))
            return
        await self.trust.announce(offered)

    def _failed(self, error: MeshcaError) -> None:
        self._failures += 1
        self._error = error
        self.metrics.rotation_failures.inc()
        delay = retry_delay(self._failures, self.draw)
        self._not_before = self.clock.monotonic() + delay.total_seconds()
        log.error(
            "authority_step_failed",
            error=str(error),
            attempt=self._failures,
            next_try_seconds=round(delay.total_seconds(), 1),
        )
