"""Joining the parts that keep authorities supplied, and the sinks that write their tables."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from ca.at_rest import KeyAtRest
from ca.authority import Authorities
from ca.upstream.provision import Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter, Sink
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks
from rotation.authority_watch import AuthorityWatch
from rotation.custody import Custody
from rotation.fact_finding import RESCUE_PATIENCE, FactFinding
from rotation.gates import Gates
from rotation.intermediates import SETTLES_WITHIN, Intermediates
from rotation.issuer_revocation import IssuerRevocation
from rotation.leaves import Leaves
from rotation.membership import Membership
from rotation.preparation import Preparation
from rotation.propagation import BundleVersion, Propagation
from rotation.proxies import Proxies
from rotation.replicas import Confirmed, ConfirmedSink, Gone, GoneSink, Replicas, Seen, SeenSink
from rotation.revocation_views import RevocationViews
from rotation.roots import (
    NewRoot,
    NewRootSink,
    RootChange,
    RootChangeSink,
    Roots,
    WaiverAdded,
    WaiverSink,
)
from rotation.standings import (
    AtIssuer,
    AtIssuerSink,
    NewAuthority,
    NewAuthoritySink,
    NewChain,
    NewChainSink,
    StageChange,
    StageChangeSink,
    Standings,
)
from rotation.steps import Steps
from rotation.trust import Trust

AUTHORITY_SINKS: Final[Mapping[type, Sink]] = {
    NewRoot: NewRootSink(),
    RootChange: RootChangeSink(),
    WaiverAdded: WaiverSink(),
    NewAuthority: NewAuthoritySink(),
    NewChain: NewChainSink(),
    StageChange: StageChangeSink(),
    AtIssuer: AtIssuerSink(),
    Seen: SeenSink(),
    Gone: GoneSink(),
    Confirmed: ConfirmedSink(),
}


def build_intermediates(
    upstream: Upstream,
    *,
    at_rest: KeyAtRest | None,
    engine: sa.Engine,
    authorities: Authorities,
    leaves: Leaves,
    proxies: Proxies,
    bundle_version: BundleVersion,
    writer: GroupWriter,
    clock: Clock,
    metrics: Metrics,
    replica: str,
    locks: NameLocks,
    views: RevocationViews,
    patience: timedelta = RESCUE_PATIENCE,
    settling: timedelta = SETTLES_WITHIN,
) -> Intermediates:
    """Return what keeps `authorities` supplied by `upstream`; nothing is loaded yet."""
    standings = Standings(engine)
    members = Membership(
        name=replica, locks=locks, replicas=Replicas(engine), writer=writer, clock=clock
    )
    gates = Gates(
        proxies=proxies,
        propagation=Propagation(bundle_version),
        members=members,
        standings=standings,
        writer=writer,
        clock=clock,
    )
    trust = Trust(
        roots=Roots(engine),
        standings=standings,
        authorities=authorities,
        gates=gates,
        writer=writer,
        clock=clock,
    )
    watch = AuthorityWatch(
        authorities=authorities, leaves=leaves, metrics=metrics, can_renew=upstream.can_renew
    )
    at_issuer = IssuerRevocation(
        upstream=upstream, standings=standings, writer=writer, clock=clock, metrics=metrics
    )
    steps = Steps(writer, clock)
    custody = Custody(authorities=authorities, clock=clock, at_rest=at_rest)
    preparation = Preparation(
        upstream=upstream,
        authorities=authorities,
        trust=trust,
        standings=standings,
        steps=steps,
        custody=custody,
        members=members,
        lists=views.lists,
        writer=writer,
        clock=clock,
    )
    return Intermediates(
        preparation=preparation,
        gates=gates,
        views=views,
        settling=settling,
        known=FactFinding(
            upstream=upstream,
            authorities=authorities,
            trust=trust,
            gates=gates,
            lists=views.lists,
            custody=custody,
            preparation=preparation,
            standings=standings,
            clock=clock,
            patience=patience,
        ),
        steps=steps,
        at_issuer=at_issuer,
        upstream=upstream,
        authorities=authorities,
        trust=trust,
        standings=standings,
        leaves=leaves,
        custody=custody,
        watch=watch,
        writer=writer,
        clock=clock,
        metrics=metrics,
        members=members,
    )
