"""How far a change of root is: its phases, what each still has to do, and for whom it waits.

    announce -> propagate -> switch -> reissue -> drain -> remove

Nothing here does anything: the phases follow from the roots, the authorities, the credentials that
are held and the inventory, so that a server that was restarted shows the same.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rotation.intermediates import Intermediates
from rotation.propagation import Missing
from rotation.roots import IN_BUNDLE, Root, RootStage
from rotation.standings import Row


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: how much is left (0: done), and of what."""

    name: str
    remaining: int
    of: str


@dataclass(frozen=True, slots=True)
class RootProgress:
    """Where the change of root stands; `successor` is None when there is only one root."""

    successor: Root | None
    is_under_way: bool
    phases: Sequence[Phase]
    missing: Sequence[Missing]


async def root_progress(intermediates: Intermediates) -> RootProgress:
    """Return how far the change of root is; before one is begun, what it would wait for."""
    trust = intermediates.trust
    successor = trust.successor()
    if successor is None:
        return RootProgress(None, False, (), ())
    missing = await trust.missing(successor) if successor.stage is RootStage.ANNOUNCED else []
    rows = await asyncio.to_thread(intermediates.standings.of)
    old = {row.standing.authority_id for row in rows if row.root_sha256 != successor.root_sha256}
    leaving = [
        root
        for root in trust.known
        if root.stage in IN_BUNDLE and root.root_sha256 != successor.root_sha256
    ]
    live = await asyncio.to_thread(
        intermediates.standings.count_live, old, intermediates.clock.now()
    )
    phases = (
        Phase("announce", 0, "the new root is in the bundle"),
        Phase("propagate", len(missing), "workloads not known to have it"),
        Phase("switch", _not_signing(intermediates, rows, successor), "replicas to sign under it"),
        Phase("reissue", _leaves_under(intermediates, old), "connected workloads to replace"),
        Phase("drain", live, "live certificates under the old root"),
        Phase("remove", len(leaving), "old roots in the bundle"),
    )
    return RootProgress(successor, bool(trust.retiring), phases, missing)


def _not_signing(intermediates: Intermediates, rows: Sequence[Row], successor: Root) -> int:
    """Return how many replicas do not sign under `successor` yet."""
    names = {r.standing.authority_id for r in rows if r.root_sha256 == successor.root_sha256}
    others = (other.report.signing for other in intermediates.members.others)
    return sum(signing not in names for signing in (intermediates.signing(), *others))


def _leaves_under(intermediates: Intermediates, old: set[str]) -> int:
    """Return how many credentials under the authorities in `old` are held, by any replica."""
    held = intermediates.leaves.credentials()
    elsewhere = sum(
        count
        for other in intermediates.members.others
        for name, count in other.report.leaves.items()
        if name in old
    )
    return elsewhere + sum(credential.svid.authority_id in old for credential in held)
