"""Joining the parts of revocation: what is revoked, the lists, what is pushed, and who answers."""

from dataclasses import dataclass

import sqlalchemy as sa

from ca.authority import Authorities
from ca.ocsp.colleagues import OcspColleagues
from ca.ocsp.colleagues_store import OCSP_CHANGED, Colleagues
from ca.ocsp.inventory import IssuedSerials
from ca.ocsp.responder import Responder
from ca.ocsp.signers import OcspSigners
from ca.revocation.crl_store import CRLS_CHANGED
from ca.revocation.lists import RevocationLists
from ca.revocation.operations import RevocationOperations
from ca.revocation.state import RevocationState
from ca.revocation.store import REVOCATIONS_CHANGED, Revocations
from ca.store import Inventory
from identity.caller import Caller
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.settings import Settings
from rotation.leaves import Leaves
from rotation.revocation_views import RevocationViews
from sds.ledger import Ledger

log = get_logger("meshca")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationParts:
    """Everything that revocation is made of; nothing runs yet."""

    state: RevocationState
    lists: RevocationLists
    views: RevocationViews
    operations: RevocationOperations
    signers: OcspSigners
    colleagues: OcspColleagues
    responder: Responder

    async def load(self) -> None:
        """Read what is revoked and which lists are in force; raises StoreUnavailable."""
        await self.state.load()
        await self.lists.load()
        self.views.refresh()


def build_revocation(
    settings: Settings,
    *,
    authorities: Authorities,
    engine: sa.Engine,
    writer: GroupWriter,
    feed: ChangeFeed,
    clock: Clock,
    metrics: Metrics,
) -> RevocationParts:
    """Return the parts, joined to each other and to what other replicas change."""
    state = RevocationState(revocations=Revocations(engine), clock=clock)
    lists = RevocationLists(
        state=state,
        signers=authorities.held,
        engine=engine,
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    views = RevocationViews(lists=lists, state=state)
    signers = OcspSigners(
        authorities=authorities,
        held=authorities.held,
        trust_domain=settings.trust_domain,
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    colleagues = OcspColleagues(
        replica=settings.replica,
        signers=signers,
        colleagues=Colleagues(engine),
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    feed.subscribe(OCSP_CHANGED, colleagues.heed)
    feed.subscribe(REVOCATIONS_CHANGED, state.heed)
    feed.subscribe(CRLS_CHANGED, lists.heed)
    state.subscribe(lists.wake)
    state.subscribe(views.refresh_soon)
    lists.subscribe(views.refresh)
    authorities.subscribe(lists.wake)
    authorities.subscribe(signers.heed)
    authorities.subscribe(colleagues.heed)
    return RevocationParts(
        state=state,
        lists=lists,
        views=views,
        operations=RevocationOperations(
            trust_domain=settings.trust_domain,
            revocations=state.revocations,
            inventory=Inventory(engine),
            state=state,
            writer=writer,
            clock=clock,
            confirm_above=settings.revocation.confirm_above,
        ),
        signers=signers,
        colleagues=colleagues,
        responder=Responder(
            signers=signers,
            issued=IssuedSerials(engine=engine, clock=clock),
            state=state,
            clock=clock,
            metrics=metrics,
        ),
    )


def cut_off(revocation: RevocationState, ledger: Ledger, leaves: Leaves) -> None:
    """End the streams of whoever is banned or came with a revoked certificate; replace the latter.

    A workload whose certificate was revoked, and that is not banned, gets another one at once.
    """
    revoked = revocation.live()

    def is_refused(caller: Caller) -> bool:
        return caller.certificate_serial in revoked or revocation.ban_of(caller) is not None

    ended = ledger.end_where(is_refused)
    replaced = leaves.renew_revoked(revoked)
    if ended or replaced:
        log.warning("cut_off", streams=ended, replaced=replaced)
