"""Keeping the bundle: new roots are announced, trusted once everybody has them, removed at the end.

The bundle that proxies are sent is a function of the roots table (rotation/roots.py): `observe`
reads it, pushes what it says, and notes who has acknowledged it; `step` takes the steps that are
due, each recorded before it takes effect. Every replica observes, the leader steps.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509

from audit.entry import Entry, Json
from ca.authority import Authorities
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, NotFound
from meshca.logs import get_logger
from rotation.membership import Membership
from rotation.propagation import Missing, Propagation, Workload, absent
from rotation.proxies import Proxies
from rotation.replicas import MAXIMUM_REPORTED, Confirmed, Replica, Waiting
from rotation.roots import (
    IN_BUNDLE,
    Root,
    RootChange,
    Roots,
    RootStage,
    Waiver,
    WaiverAdded,
    unknown,
)
from rotation.stages import ENDED
from rotation.standings import Standings

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Trust:
    """The roots of our trust domain, in step with the table."""

    roots: Roots
    standings: Standings
    authorities: Authorities
    proxies: Proxies
    propagation: Propagation
    members: Membership
    writer: GroupWriter
    clock: Clock
    _known: list[Root] = field(default_factory=list)

    async def load(self) -> None:
        """Read the table and push what it says."""
        self._known = await asyncio.to_thread(self.roots.all)
        bundle = tuple(root.certificate for root in self._known if root.stage in IN_BUNDLE)
        if bundle:
            self.authorities.trust(bundle, sequence=int(self.clock.now().timestamp()))

    async def announce(self, offered: Sequence[x509.Certificate]) -> None:
        """Take in the roots of an upstream that are not known yet, and push them.

        Raises Conflict when another replica did so in the same moment.
        """
        now = self.clock.now()
        await self.load()  # another replica may have been the first to see them
        fresh = unknown(offered, self._known, at=now)
        if fresh:
            entries = [_entry(new.root, new.root.stage, now, new.root.reason) for new in fresh]
            await self.writer.submit(*fresh, *entries)
            await self.load()

    async def observe(self) -> Mapping[str, Waiting]:
        """Push what the table says; note who has the announced roots; return whom they wait for.

        Only the proxies of this replica are looked at. What was seen is in the database on return.
        """
        await self.load()
        announced = [r.root_sha256 for r in self._known if r.stage is RootStage.ANNOUNCED]
        connected = self.proxies.connected() if announced else ()
        self.propagation.observe(announced, connected)
        for root, holders in self.propagation.unwritten().items():
            await self.writer.submit(Confirmed(root, holders))
            self.propagation.written(root, holders)
        waiting = {
            root: self.propagation.missing(root, connected, self.members.name) for root in announced
        }
        return {
            root: Waiting(tuple(missing[:MAXIMUM_REPORTED]), len(missing[MAXIMUM_REPORTED:]))
            for root, missing in waiting.items()
        }

    async def step(self) -> None:
        """Take every step that is due now: the leader's work, after `observe`."""
        for root in self._known:
            if root.stage is RootStage.ANNOUNCED and not await self.missing(root):
                await self._change(root, RootStage.TRUSTED, "every workload has it")
            elif root.stage is RootStage.RETIRING and not await self.is_used(root):
                await self._change(root, RootStage.REMOVED, "no live certificate chains to it")

    async def missing(self, root: Root) -> list[Missing]:
        """Return whom an announced root waits for, on every replica; without those waived."""
        connected = self.proxies.connected()
        found = self.propagation.missing(root.root_sha256, connected, self.members.name)
        for other in self.members.others:
            found += _reported(root.root_sha256, other)
        holders = await asyncio.to_thread(self.standings.holders, self.clock.now())
        known = await asyncio.to_thread(self.members.replicas.confirmed, root.root_sha256)
        present = {p.holder for p in connected} | {m.holder for m in found}
        found += absent(holders, confirmed=known, present=present)
        waived = {(w.spiffe_id, w.pod) for w in root.waived}
        return [m for m in found if (m.spiffe_id, m.pod) not in waived]

    async def is_used(self, root: Root) -> bool:
        """Return whether anything alive chains to `root`, on any replica (invariant 8).

        An authority that has not ended, or a certificate: also one that was being issued while its
        authority was retired.
        """
        rows = await asyncio.to_thread(self.standings.of)
        under = [row.standing for row in rows if row.root_sha256 == root.root_sha256]
        if any(standing.stage not in ENDED for standing in under):
            return True
        names = [standing.authority_id for standing in under]
        return await asyncio.to_thread(self.standings.count_live, names, self.clock.now()) > 0

    async def retire(self, names: Set[str], *, actor: str, reason: str) -> None:
        """Let the trusted roots in `names` be replaced; those that are retiring already stay so."""
        for root in self._known:
            if root.root_sha256 in names and root.stage is RootStage.TRUSTED:
                await self._change(root, RootStage.RETIRING, reason, actor=actor)

    async def drop(self, root_sha256: str, *, actor: str, reason: str) -> None:
        """Take an announced root out of the bundle: nothing was signed under it.

        Raises NotFound, and Conflict when it is not announced or something chains to it.
        """
        root = await asyncio.to_thread(self.roots.get, root_sha256)
        if root.stage is RootStage.REMOVED:
            return
        if root.stage is not RootStage.ANNOUNCED:
            raise Conflict(f"root {root_sha256} is {root.stage}: only an announced one is dropped")
        if await self.is_used(root):
            raise Conflict(f"an authority or a certificate under root {root_sha256} lives")
        await self._change(root, RootStage.REMOVED, reason, actor=actor)

    async def keep(self, *, actor: str, reason: str) -> int:
        """Trust the retiring roots again: a change is given up; return how many there were."""
        retiring = [root for root in self._known if root.stage is RootStage.RETIRING]
        for root in retiring:
            await self._change(root, RootStage.TRUSTED, reason, actor=actor)
        return len(retiring)

    async def waive(self, root_sha256: str, workload: Workload, *, actor: str, reason: str) -> None:
        """Let a root wait no more for one workload, which may lose its connections for it.

        Raises NotFound when there is no such root, Conflict when it does not wait for that one.
        """
        root = await asyncio.to_thread(self.roots.get, root_sha256)
        spiffe_id, pod = workload
        if (spiffe_id, pod) in {(w.spiffe_id, w.pod) for w in root.waived}:
            return
        waits_for = await self.missing(root) if root.stage is RootStage.ANNOUNCED else []
        if (spiffe_id, pod) not in {(m.spiffe_id, m.pod) for m in waits_for}:
            raise Conflict(f"root {root_sha256} is {root.stage}: it does not wait for {spiffe_id}")
        now = self.clock.now()
        entry = _entry(root, root.stage, now, reason, actor=actor)
        details: dict[str, Json] = {**entry.details, "waived": True}
        await self.writer.submit(
            WaiverAdded(root_sha256, Waiver(spiffe_id, pod, actor, reason, now)),
            replace(entry, spiffe_id=spiffe_id, pod=pod, details=details),
        )
        await self.load()

    def successor(self) -> Root | None:
        """Return the newest root that is not to be replaced; None when it is the only one."""
        newest = max(self._staying(), key=lambda root: root.number, default=None)
        return newest if len(self.in_bundle) > 1 else None

    def successor_named(self, root_sha256: str) -> Root | None:
        """Return the root of that name if the mesh can move to it; None when it is the only one.

        Raises NotFound when it is not in the bundle or is to be replaced itself, and Conflict while
        another one is announced: the mesh could not tell to which it moves.
        """
        staying = {root.root_sha256: root for root in self._staying()}
        if root_sha256 not in staying:
            raise NotFound(f"no root {root_sha256} is announced or trusted; see `meshca ca show`")
        for root in staying.values():
            if root.stage is RootStage.ANNOUNCED and root.root_sha256 != root_sha256:
                raise Conflict(
                    f"root {root.root_sha256} is announced too: drop it first "
                    f"(`meshca ca drop-root {root.root_sha256}`)"
                )
        return staying[root_sha256] if len(self.in_bundle) > 1 else None

    def _staying(self) -> list[Root]:
        return [r for r in self._known if r.stage in (RootStage.ANNOUNCED, RootStage.TRUSTED)]

    @property
    def known(self) -> Sequence[Root]:
        """Return every root there ever was."""
        return self._known

    @property
    def in_bundle(self) -> frozenset[str]:
        """Return the roots that proxies are told to trust."""
        return frozenset(r.root_sha256 for r in self._known if r.stage in IN_BUNDLE)

    @property
    def signing(self) -> frozenset[str]:
        """Return the roots that every proxy has: what is signed under them can be verified."""
        stages = {RootStage.TRUSTED, RootStage.RETIRING}
        return frozenset(r.root_sha256 for r in self._known if r.stage in stages)

    @property
    def retiring(self) -> frozenset[str]:
        """Return the roots that are to be replaced."""
        return frozenset(r.root_sha256 for r in self._known if r.stage is RootStage.RETIRING)

    async def _change(
        self, root: Root, stage: RootStage, reason: str, *, actor: str = "meshca"
    ) -> None:
        now = self.clock.now()
        change = RootChange(root.root_sha256, root.stage, stage, now, reason)
        await self.writer.submit(change, _entry(root, stage, now, reason, actor=actor))
        log.info("root_changed", root=root.root_sha256, stage=stage.value, reason=reason)
        await self.load()


def _reported(root_sha256: str, other: Replica) -> list[Missing]:
    """Return whom a root waits for on another replica; itself, until it has reported."""
    waiting = other.report.roots.get(root_sha256)
    if waiting is None:
        why = f"replica {other.name} has not reported on it yet"
        return [Missing("", "", True, why, other.started_at, replica=other.name)]
    found = list(waiting.missing)
    if waiting.more:
        why = f"{waiting.more} more proxies of replica {other.name}"
        found.append(Missing("", "", True, why, replica=other.name))
    return found


def _entry(
    root: Root, stage: RootStage, now: datetime, reason: str, *, actor: str = "meshca"
) -> Entry:
    return Entry(
        time=now,
        kind="root_change",
        outcome="done",
        actor=actor,
        serial=f"{root.certificate.serial_number:x}",
        reason=reason,
        details={
            "root": root.root_sha256,
            "stage": stage.value,
            "subject": root.certificate.subject.rfc4514_string(),
            "not_after": int(root.certificate.not_valid_after_utc.timestamp()),
        },
    )
