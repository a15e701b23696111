"""Preparing an authority: asked of the upstream, checked, recorded; nothing signs with it yet."""

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Final

from ca.authority import Authorities, Authority
from ca.upstream.provision import Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable, MeshcaError
from meshca.logs import get_logger
from rotation.custody import Custody
from rotation.membership import Membership
from rotation.revocation_views import Lists
from rotation.stages import ENDED, Stage, Step
from rotation.standings import NewChain, Row, Standings, new_authority, root_id
from rotation.steps import ITSELF, Steps, authority_entry
from rotation.trust import Trust

AFTER_REFUSAL_SECONDS: Final = 600.0
"""How long no other is asked for after one that was not used: each is a live CA certificate."""

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Preparation:
    """Asks `upstream`, for the replica that `members` names."""

    upstream: Upstream
    authorities: Authorities
    trust: Trust
    standings: Standings
    steps: Steps
    custody: Custody
    members: Membership
    lists: Lists
    writer: GroupWriter
    clock: Clock
    _no_prepare_before: float = -math.inf

    def can_prepare(self) -> bool:
        """Return whether the upstream can be asked for another authority now."""
        is_late = self.clock.monotonic() >= self._no_prepare_before
        signing = self.authorities.signing(self.clock.now())
        return self.upstream.can_renew and (is_late or not signing)

    async def prepare(self, reason: str, *, actor: str = ITSELF) -> str:
        """Ask the upstream for an authority and record it; return its id.

        Raises what the upstream raises, and AuthorityUnavailable for what may not be used here.
        """
        provision = await asyncio.to_thread(self.upstream.provide, self.clock.now())
        authority = provision.authority
        try:
            await self.trust.announce(provision.roots)
            await self._record(authority, reason, actor)
        except MeshcaError as error:
            self._refuse(authority, str(error), actor)
            raise
        self.custody.take(authority)
        await self.lists.ensure(authority)
        return authority.authority_id

    async def _record(self, authority: Authority, reason: str, actor: str) -> None:
        name, now = authority.authority_id, self.clock.now()
        known = await asyncio.to_thread(self.standings.find, name)
        self._check_root(root_id(authority.root), known)
        key = None if known is not None else await asyncio.to_thread(self.custody.wrap, authority)
        new = new_authority(authority, replica=self.members.name, at=now, reason=reason, key=key)
        entry = authority_entry(name, Stage.PREPARED, reason, now, actor, authority)
        if known is None:
            await self.writer.submit(new, entry)
            return
        await self._check_owner(known)
        await self._bring_back(known)
        if known.chain != authority.chain:
            await self.writer.submit(NewChain(new), replace(entry, reason="its certificate is new"))
        elif known.standing.replica != self.members.name:
            await self.writer.submit(NewChain(new), replace(entry, reason="its files moved here"))

    async def _check_owner(self, known: Row) -> None:
        """Refuse the files of another replica that runs: each has a key of its own."""
        owner = known.standing.replica
        if owner != self.members.name and await self.members.is_running(owner):
            raise AuthorityUnavailable(
                f"authority {known.standing.authority_id} is replica {owner}'s, which runs: "
                f"give replica {self.members.name} files of its own (upstream.chain, upstream.key)"
            )

    def _check_root(self, root: str, known: Row | None) -> None:
        """Refuse a root that was removed; one that is leaving, unless nothing else can sign."""
        if root in self.trust.in_bundle - self.trust.retiring:
            return
        is_alive = known is not None and known.standing.stage not in ENDED
        if root in self.trust.retiring and (
            is_alive or not self.authorities.signing(self.clock.now())
        ):
            return
        raise AuthorityUnavailable(
            f"the upstream signs under root {root}, which is to be replaced or was removed: "
            "let it sign under the new one, or give the change up (`meshca ca rotate-root --abort`)"
        )

    def _refuse(self, authority: Authority, why: str, actor: str) -> None:
        """Note what was signed for us and is not used; ask for no other soon, while one signs."""
        now = self.clock.now()
        if self.authorities.signing(self.clock.now()):
            self._no_prepare_before = self.clock.monotonic() + AFTER_REFUSAL_SECONDS
        entry = authority_entry(authority.authority_id, Stage.PREPARED, why, now, actor, authority)
        self.writer.note(replace(entry, outcome="failed"))

    async def _bring_back(self, row: Row) -> None:
        """Take an authority from files that was here before; raises AuthorityUnavailable."""
        s = row.standing
        if s.stage in (Stage.TAINTED, Stage.REVOKED):
            raise AuthorityUnavailable(
                f"authority {s.authority_id} was {s.stage} at {s.since.isoformat()} ({s.reason}): "
                "it never signs again; give the upstream another key and certificate"
            )
        if s.stage in (Stage.RETIRING, Stage.RETIRED):
            step = Step(Stage.PREPARED, "its files are back", s.authority_id)
            await self.steps.take(step, [row])
