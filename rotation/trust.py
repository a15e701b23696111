"""Keeping the bundle: new roots are announced, trusted once everybody has them, removed at the end.

The bundle that proxies are sent is a function of the roots table (rotation/roots.py): `load` reads
it and pushes what it says; `step` takes the steps that are due, each recorded before it takes
effect: the leader's work. Who has a root yet is known to rotation/gates.py.
"""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from cryptography import x509

from audit.entry import Entry, Json
from ca.authority import Authorities
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, NotFound
from meshca.logs import get_logger
from rotation.gates import Gates
from rotation.propagation import Missing, Workload
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

_ATTEMPTS: Final = 4

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Trust:
    """The roots of our trust domain, in step with the table."""

    roots: Roots
    standings: Standings
    authorities: Authorities
    gates: Gates
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
        """Take in the roots of an upstream that are not known yet, and push them."""
        now = self.clock.now()
        for attempt in range(_ATTEMPTS):
            await self.load()  # another replica may have been the first to see them
            fresh = unknown(offered, self._known, at=now)
            if not fresh:
                return
            entries = [_entry(new.root, new.root.stage, now, new.root.reason) for new in fresh]
            try:
                await self.writer.submit(*fresh, *entries)
            except Conflict:  # it was, in this moment
                if attempt == _ATTEMPTS - 1:
                    raise

    @property
    def announced(self) -> tuple[str, ...]:
        """Return the roots that wait for everybody to have them."""
        return tuple(r.root_sha256 for r in self._known if r.stage is RootStage.ANNOUNCED)

    async def step(self) -> None:
        """Take every step that is due now: the leader's work, after `load`."""
        for root in self._known:
            if root.stage is RootStage.ANNOUNCED and not await self.missing(root):
                await self._change(root, RootStage.TRUSTED, "every workload has it")
            elif root.stage is RootStage.RETIRING and not await self.is_used(root):
                await self._change(root, RootStage.REMOVED, "no live certificate chains to it")

    async def missing(self, root: Root) -> list[Missing]:
        """Return whom an announced root waits for, on every replica; without those waived."""
        found = await self.gates.missing(root.root_sha256)
        waived = {(w.spiffe_id, w.pod) for w in root.waived}
        return [m for m in found if not m.spiffe_id or (m.spiffe_id, m.pod) not in waived]

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
        """Take a root out of the bundle under which nothing is alive.

        Raises NotFound, and Conflict when something chains to it or no other is trusted.
        """
        root = await asyncio.to_thread(self.roots.get, root_sha256)
        if root.stage is RootStage.REMOVED:
            return
        if await self.is_used(root):
            raise Conflict(
                f"an authority or a certificate under root {root_sha256} lives: "
                "`meshca ca rotate-root --to` moves to another root first"
            )
        if not self.signing - {root_sha256}:
            raise Conflict(f"root {root_sha256} is the only one that is trusted")
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
        if not spiffe_id:
            raise Conflict("only a workload is waived, by its SPIFFE ID: never a replica")
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


def _entry(
    root: Root, stage: RootStage, now: datetime, reason: str, *, actor: str = "meshca"
) -> Entry:
    return Entry(
        time=now,
        kind="root_change",
        outcome="done",
        actor=actor,
        serial=f"{root.certificate.serial_number:x}",
        fingerprint=root.root_sha256,
        reason=reason,
        details={
            "root": root.root_sha256,
            "stage": stage.value,
            "subject": root.certificate.subject.rfc4514_string(),
            "not_after": int(root.certificate.not_valid_after_utc.timestamp()),
        },
    )
