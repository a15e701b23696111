"""What an operator may do to authorities by hand: each a step of the same machine, and audited.

Everything here may be asked twice: the second time changes nothing. What cannot be done now is
refused with what it waits for.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from meshca.errors import Conflict
from rotation.intermediates import Intermediates
from rotation.stages import ALLOWED, Stage, Step
from rotation.standings import Row

_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class AuthorityOperations:
    """The steps of `meshca ca`."""

    intermediates: Intermediates

    async def prepare(self, *, actor: str, reason: str) -> str:
        """Prepare a successor now, unless one waits already; return the id of the one that waits.

        Raises Conflict when the upstream gives none, AuthorityUnavailable when it does not answer.
        """
        async with self.intermediates.stepping():
            await self.intermediates.advance()
            for row in await self.intermediates.rows():
                if row.standing.stage in (Stage.PREPARED, Stage.PUBLISHED):
                    return row.standing.authority_id
            if not self.intermediates.upstream.can_renew:
                raise Conflict("the upstream gives no fresh intermediate: replace its files")
            name = await self.intermediates.preparation.prepare(reason, actor=actor)
            await self.intermediates.settle()
            return name

    async def activate(
        self, authority_id: str, *, actor: str, reason: str, anyway: bool = False
    ) -> None:
        """Let a published authority sign now; `anyway`: even if not every workload has its root.

        Raises NotFound, or Conflict saying what it waits for.
        """
        async with self.intermediates.stepping():
            row = await self._get(authority_id)
            if row.standing.stage is Stage.ACTIVE:
                return
            await self._check_activation(row, anyway=anyway)
            rows = await self.intermediates.rows()
            active = [r.standing for r in rows if r.standing.stage is Stage.ACTIVE]
            retires = tuple(standing.authority_id for standing in active)
            step = Step(Stage.ACTIVE, reason, authority_id, retires)
            await self.intermediates.steps.take(step, rows, actor=actor, anyway=anyway)
            await self.intermediates.settle()

    async def _check_activation(self, row: Row, *, anyway: bool) -> None:
        s = row.standing
        if s.replica != self.intermediates.replica:
            raise Conflict(f"authority {s.authority_id} belongs to replica {s.replica}: ask there")
        if s.stage is not Stage.PUBLISHED or s.authority_id not in self.intermediates.custody.held:
            raise Conflict(
                f"authority {s.authority_id} is {s.stage}: only a published one can sign"
            )
        if anyway:
            return
        if row.root_sha256 not in self.intermediates.trust.signing:
            raise Conflict("not every workload has its root: `meshca ca show` says who lacks it")
        missing = [m for m in await self.intermediates.gates.missing(s.authority_id) if m.follows]
        if missing:
            first = missing[0]
            raise Conflict(
                f"{len(missing)} workloads are not known to have its revocation list, and would "
                f"refuse its leaves: the first is {first.spiffe_id} {first.pod} ({first.why})"
            )

    async def taint(self, authority_id: str, *, actor: str, reason: str) -> None:
        """Let an authority sign nothing ever again, and have every leaf under it replaced.

        It signs nothing from here on, whatever the loop is waiting for. Raises NotFound, or
        Conflict when it was revoked already.
        """
        row = await self._get(authority_id)
        if row.standing.stage is not Stage.REVOKED:
            self.intermediates.authorities.bar(authority_id)
        # Not under the lock: other replicas must hear of it while this one waits for its upstream.
        await self._mark(authority_id, Stage.TAINTED, actor=actor, reason=reason)
        async with self.intermediates.stepping():
            await self.intermediates.settle()

    async def revoke(self, authority_id: str, *, actor: str, reason: str) -> None:
        """End a tainted authority under which nothing is alive; raises NotFound or Conflict."""
        async with self.intermediates.stepping():
            await self._mark(authority_id, Stage.REVOKED, actor=actor, reason=reason)
            await self.intermediates.settle()

    async def _mark(self, authority_id: str, stage: Stage, *, actor: str, reason: str) -> None:
        for attempt in range(_ATTEMPTS):
            row = await self._get(authority_id)
            if row.standing.stage is stage:
                return
            if stage not in ALLOWED[row.standing.stage]:
                raise Conflict(f"authority {authority_id} is {row.standing.stage}: not to {stage}")
            if stage is Stage.REVOKED:
                await self._check_unused(row)
            try:
                await self.intermediates.steps.take(
                    Step(stage, reason, authority_id), [row], actor=actor
                )
            except Conflict:  # somebody was faster: look at what it is now
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _check_unused(self, row: Row) -> None:
        name, now = row.standing.authority_id, self.intermediates.clock.now()
        live = await asyncio.to_thread(self.intermediates.standings.live_until, [name])
        if name in live and now < min(live[name], row.standing.not_after):
            raise Conflict(
                f"certificates under authority {name} live until {live[name].isoformat()}: "
                f"`meshca svid list --authority {name}` shows them"
            )

    async def replace_root(self, *, actor: str, reason: str, to: str | None = None) -> str:
        """Begin to replace every other root by `to`, or by the newest one; return its name.

        Everything that follows happens by itself, as soon as it may: see `rotation.roots`. Raises
        Conflict when the upstream offers no other root, or it is not clear which one is meant;
        NotFound when `to` is none; AuthorityUnavailable when the upstream does not answer.
        """
        intermediates, trust = self.intermediates, self.intermediates.trust
        async with intermediates.stepping():
            now = intermediates.clock.now()
            await trust.announce(await asyncio.to_thread(intermediates.upstream.roots, now))
            if to is None and len(trust.announced) > 1:
                raise Conflict(
                    "several roots are announced: drop those that shall not stay first "
                    f"(`meshca ca drop-root`): {', '.join(trust.announced)}"
                )
            successor = trust.successor() if to is None else trust.successor_named(to)
            if successor is None:
                raise Conflict("the upstream offers no other root than the one that is replaced")
            leaving = trust.in_bundle - {successor.root_sha256}
            await trust.retire(leaving, actor=actor, reason=reason)
            await intermediates.step_roots()
            await intermediates.settle()
            return successor.root_sha256

    async def drop_root(self, root_sha256: str, *, actor: str, reason: str) -> None:
        """Take a root that nobody uses out of every bundle; raises NotFound or Conflict."""
        async with self.intermediates.stepping():
            await self.intermediates.trust.load()
            await self.intermediates.trust.drop(root_sha256, actor=actor, reason=reason)
            await self.intermediates.settle()

    async def keep_root(self, *, actor: str, reason: str) -> int:
        """Give a change of root up: what was to be replaced is trusted again; return how many.

        Raises Conflict when none is under way.
        """
        async with self.intermediates.stepping():
            await self.intermediates.trust.load()
            kept = await self.intermediates.trust.keep(actor=actor, reason=reason)
            if not kept:
                raise Conflict("no change of root is under way")
            await self.intermediates.settle()
            return kept

    async def waive(
        self, root_sha256: str, spiffe_id: str, pod: str, *, actor: str, reason: str
    ) -> None:
        """Let an announced root wait no more for one workload; raises NotFound or Conflict."""
        trust = self.intermediates.trust
        async with self.intermediates.stepping():
            await trust.waive(root_sha256, (spiffe_id, pod), actor=actor, reason=reason)
            await self.intermediates.step_roots()
            await self.intermediates.settle()

    async def _get(self, authority_id: str) -> Row:
        return await asyncio.to_thread(self.intermediates.standings.get, authority_id)
