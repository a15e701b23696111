"""Who does not have yet what everybody must have: a root, or the revocation list of an authority.

Whatever is waited for has a name (a root's SHA-256, an authority's id) and is part of the bundle
that proxies are pushed. A proxy that has acknowledged that bundle has all of its parts. Each
replica looks at its own proxies (`observe`) and reports; `missing` puts the reports together.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from meshca.clock import Clock
from meshca.database import GroupWriter
from rotation.membership import Membership
from rotation.propagation import Missing, Propagation, absent
from rotation.proxies import Proxies
from rotation.replicas import MAXIMUM_REPORTED, Confirmed, Replica, Waiting
from rotation.standings import Standings


@dataclass(slots=True, kw_only=True)
class Gates:
    """What is waited for, and whom for."""

    proxies: Proxies
    propagation: Propagation
    members: Membership
    standings: Standings
    writer: GroupWriter
    clock: Clock

    async def observe(self, names: Collection[str]) -> Mapping[str, Waiting]:
        """Note which proxies of this replica have `names`; return whom each waits for.

        All of `names` must be in the bundle that is pushed now. What was seen is in the database on
        return.
        """
        connected = self.proxies.connected() if names else ()
        self.propagation.observe(names, connected)
        for name, holders in self.propagation.unwritten().items():
            await self.writer.submit(Confirmed(name, holders))
            self.propagation.written(name, holders)
        waiting = {n: self.propagation.missing(n, connected, self.members.name) for n in names}
        return {
            name: Waiting(tuple(missing[:MAXIMUM_REPORTED]), len(missing[MAXIMUM_REPORTED:]))
            for name, missing in waiting.items()
        }

    def missing_connected(self, name: str) -> list[Missing]:
        """Return which connected proxies, of any replica, are not known to have `name`."""
        connected = self.proxies.connected()
        found = self.propagation.missing(name, connected, self.members.name)
        for other in self.members.others:
            found += _reported(name, other)
        return found

    def has_reached_connected(self, authority_id: str) -> bool:
        """Return whether every connected proxy that follows a bundle has the list of an authority.

        One that follows none has no list of ours, and refuses nothing for want of one.
        """
        return not any(missing.follows for missing in self.missing_connected(authority_id))

    async def has_reached_all(self, authority_id: str) -> bool:
        """Return whether every workload has it, absent ones too."""
        return not any(missing.follows for missing in await self.missing(authority_id))

    async def missing(self, name: str) -> list[Missing]:
        """Return who is not known to have `name`: connected, or absent with a live certificate."""
        connected = self.missing_connected(name)
        holders = await asyncio.to_thread(self.standings.holders, self.clock.now())
        known = await asyncio.to_thread(self.members.replicas.confirmed, name)
        # Who follows no bundle may have been given the roots with its certificate.
        found = [m for m in connected if m.follows or m.holder not in known]
        present = {p.holder for p in self.proxies.connected()} | {m.holder for m in connected}
        return [*found, *absent(holders, confirmed=known, present=present)]


def _reported(name: str, other: Replica) -> list[Missing]:
    """Return whom `name` waits for on another replica; itself, until it has reported."""
    waiting = other.report.waiting.get(name)
    if waiting is None:
        why = f"replica {other.name} has not reported on it yet"
        return [Missing("", "", True, why, other.started_at, replica=other.name)]
    found = list(waiting.missing)
    if waiting.more:
        why = f"{waiting.more} more proxies of replica {other.name}"
        found.append(Missing("", "", True, why, replica=other.name))
    return found
