"""Finding out what the machine of authorities must know of the world: `rotation.stages.Facts`."""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ca.authority import Authorities
from ca.upstream.provision import Upstream
from meshca.clock import Clock
from rotation.custody import Custody
from rotation.gates import Gates
from rotation.preparation import Preparation
from rotation.revocation_views import Lists
from rotation.stages import ENDED, OVERDUE, Facts, Stage, activate_at
from rotation.standings import Row, Standings
from rotation.trust import Trust

RESCUE_PATIENCE: Final = timedelta(seconds=5)
"""How long connected proxies may take to know an authority when nothing else can sign."""


@dataclass(slots=True, kw_only=True)
class FactFinding:
    """Looks at everything that decides a step of this replica's authorities."""

    upstream: Upstream
    authorities: Authorities
    trust: Trust
    gates: Gates
    lists: Lists
    custody: Custody
    preparation: Preparation
    standings: Standings
    clock: Clock
    patience: timedelta = RESCUE_PATIENCE

    async def facts(self, rows: Sequence[Row]) -> Facts:
        """Return what `next_step` must know about the authorities of `rows`."""
        unended = [r for r in rows if r.standing.stage not in ENDED]
        names = [r.standing.authority_id for r in unended]
        reached = self._reached(unended)
        return Facts(
            held=self.custody.held.keys(),
            published=_under(unended, self.trust.in_bundle) & self.lists.current().keys(),
            reached=reached,
            propagated=await self._propagated(unended, reached),
            live_until=await asyncio.to_thread(self.standings.live_until, names),
            can_prepare=self.preparation.can_prepare(),
            leaving=_under(unended, self.trust.retiring),
            revoked_above=self._revoked_above(unended),
        )

    def _reached(self, rows: Sequence[Row]) -> frozenset[str]:
        """Return the published authorities that connected proxies know, or had time to."""
        long_ago = self.clock.now() - self.patience
        published = (r.standing for r in rows if r.standing.stage is Stage.PUBLISHED)
        return frozenset(
            s.authority_id
            for s in published
            if s.since <= long_ago or self.gates.has_reached_connected(s.authority_id)
        )

    async def _propagated(self, rows: Sequence[Row], reached: Set[str]) -> frozenset[str]:
        """Return the published authorities that every workload knows, if that decides anything."""
        now, signing = self.clock.now(), self.authorities.signing(self.clock.now())
        active = next((r.standing for r in rows if r.standing.authority_id == signing), None)
        leaving = _under(rows, self.trust.retiring)
        if active is not None and now < activate_at(active) and signing not in leaving:
            return frozenset()
        known = _under(rows, self.trust.signing) & reached
        if active is not None and now >= active.at(OVERDUE):
            return known  # who is not connected is not waited for any longer
        return frozenset([name for name in known if await self.gates.has_reached_all(name)])

    def _revoked_above(self, rows: Sequence[Row]) -> frozenset[str]:
        """Return the authorities of which a certificate is on a list of its issuer."""
        now = self.clock.now()
        return frozenset(
            row.standing.authority_id
            for row in rows
            if any(self.upstream.revokes(certificate, now) for certificate in row.chain)
        )


def _under(rows: Sequence[Row], roots: frozenset[str]) -> frozenset[str]:
    return frozenset(r.standing.authority_id for r in rows if r.root_sha256 in roots)
