"""The whole object graph in one place: `build` joins the parts and starts nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import sqlalchemy as sa

from admin.state import AdminState
from audit.entry import Entry
from audit.gaps import Gaps
from audit.log import EntrySink
from audit.refusals import RefusalRecorder
from authz.history import POLICY_HISTORY_SINKS, PolicyHistory
from authz.kubernetes.kept import KEPT_SINKS
from authz.kubernetes.pods import PodLabels
from authz.records.sinks import DECISION_SINKS
from authz.sources import PolicyLoader
from authz.staging.parts import Staging
from authz.staging.sinks import STAGING_SINKS
from authz.store import AppliedSet, AppliedSetSink
from authz.token_keys import TokenKeys
from ca.authority import Authorities
from ca.bundle_journal import BundleJournal, NewBundle, NewBundleSink
from ca.bundles import build_bundles
from ca.federation.federation import Federation
from ca.federation.store import FEDERATION_SINKS
from ca.issuance import Issuance
from ca.ocsp.colleagues_store import COLLEAGUES_SINKS
from ca.profile import Profile
from ca.publication.publisher import Publisher
from ca.revocation.crl_store import CRL_SINKS
from ca.revocation.effects import EFFECT_SINKS, Effects
from ca.revocation.sinks import REVOCATION_SINKS
from ca.store import Inventory, Planned, PlannedSink, Signed, SignedSink
from ca.upstream.build import build_key_at_rest, build_upstream
from identity.caller import Caller, Evidence
from identity.kubernetes import TokenAuthenticator, build_authenticator
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from meshca.settings import Settings
from meshca.spiffe_id import SpiffeId
from meshca.wiring_admin import AdminParts, build_admin
from meshca.wiring_audit import AUDIT_SINKS, AuditParts, build_audit
from meshca.wiring_policy import (
    DecisionParts,
    build_decisions,
    build_pod_labels,
    build_policies,
    build_staging,
    build_token_keys,
)
from meshca.wiring_revocation import RevocationParts, build_revocation, cut_off
from rotation.build import AUTHORITY_SINKS, build_intermediates
from rotation.intermediates import SETTLES_WITHIN, Intermediates
from rotation.leaves import Leaves
from rotation.operations import AuthorityOperations
from rotation.replicas import REPLICAS_CHANGED
from rotation.standings import AUTHORITIES_CHANGED
from rotation.upper_lists import UpperLists
from sds.admission import Admission
from sds.doors import Doors
from sds.effects import EffectTracker
from sds.istio_ca import IstioCertificates
from sds.ledger import Ledger
from sds.meters import meters_by_type
from sds.server_identity import ServerIdentity
from sds.snapshot import Shared, current_bundle_versions
from sds.workloads import Workloads

SERVER_PATH: Final = "/meshca/server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Every long-lived part of one process."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    engine: sa.Engine
    writer: GroupWriter
    refusals: RefusalRecorder
    gaps: Gaps
    authorities: Authorities
    intermediates: Intermediates
    issuance: Issuance
    leaves: Leaves
    authenticator: TokenAuthenticator
    policies: PolicyLoader
    history: PolicyHistory
    pods: PodLabels
    token_keys: TokenKeys
    staging: Staging
    ledger: Ledger
    decisions: DecisionParts
    doors: Doors
    identity: ServerIdentity
    journal: BundleJournal
    federation: Federation
    publisher: Publisher
    feed: ChangeFeed
    revocation: RevocationParts
    effects: EffectTracker
    upper: UpperLists
    audit: AuditParts
    admin: AdminParts


def build(settings: Settings, *, clock: Clock, metrics: Metrics, engine: sa.Engine) -> Service:
    """Return the service's parts, joined; nothing runs yet."""
    writer = GroupWriter(
        engine,
        {
            Planned: PlannedSink(EntrySink()),
            Signed: SignedSink(),
            AppliedSet: AppliedSetSink(),
            **KEPT_SINKS,
            **POLICY_HISTORY_SINKS,
            **AUTHORITY_SINKS,
            **REVOCATION_SINKS,
            **CRL_SINKS,
            **COLLEAGUES_SINKS,
            **EFFECT_SINKS,
            **STAGING_SINKS,
            **DECISION_SINKS,
            NewBundle: NewBundleSink(),
            **FEDERATION_SINKS,
            **AUDIT_SINKS,
            Entry: EntrySink(),
        },
        clock,
        metrics,
    )
    gaps = Gaps(writer, clock, metrics)
    writer.on_lost = gaps.lost
    authorities = Authorities(settings.trust_domain)
    feed = ChangeFeed(engine)
    locks = open_name_locks(engine)
    revocation = build_revocation(
        settings,
        authorities=authorities,
        engine=engine,
        writer=writer,
        feed=feed,
        clock=clock,
        metrics=metrics,
    )
    issuance = Issuance(
        authorities=authorities,
        profile=_profile(settings),
        writer=writer,
        clock=clock,
        metrics=metrics,
        check_caller=revocation.state.check_caller,
    )
    leaves = Leaves(issuance=issuance, authorities=authorities, clock=clock, metrics=metrics)
    refusals = RefusalRecorder(writer, clock, metrics)
    authenticator = build_authenticator(
        settings.clusters, trust_domain=settings.trust_domain, clock=clock, metrics=metrics
    )
    policies = build_policies(
        settings, engine=engine, writer=writer, feed=feed, gaps=gaps, clock=clock, metrics=metrics
    )
    pods = build_pod_labels(settings, clock=clock, metrics=metrics)
    token_keys = build_token_keys(settings, policies.state, clock=clock, metrics=metrics)
    staging = build_staging(
        settings,
        loader=policies,
        engine=engine,
        writer=writer,
        feed=feed,
        clock=clock,
        metrics=metrics,
    )
    ledger = Ledger()
    bundles = build_bundles(
        settings, authorities, engine=engine, writer=writer, clock=clock, metrics=metrics
    )
    federated = bundles.federation.current
    shared = Shared(
        lambda: policies.state.current,
        lambda: authorities.bundle,
        federated,
        revocation.views.current,
        clock,
        keys=token_keys.current,
        labels=lambda caller: pods.labels_of(caller.evidence.cluster, caller.evidence.pod_uid),
    )
    intermediates = build_intermediates(
        build_upstream(settings, clock, metrics),
        at_rest=build_key_at_rest(settings, clock, metrics),
        engine=engine,
        authorities=authorities,
        leaves=leaves,
        proxies=ledger,
        bundle_version=lambda name: current_bundle_versions(shared, name),
        writer=writer,
        clock=clock,
        metrics=metrics,
        replica=settings.replica,
        locks=locks,
        views=revocation.views,
        settling=min(SETTLES_WITHIN, settings.lifetimes.svid / 5),
    )
    leaves.defers = intermediates.is_settling
    for kind in (AUTHORITIES_CHANGED, REPLICAS_CHANGED):
        feed.subscribe(kind, intermediates.heed)
    upper = UpperLists(
        upstream=intermediates.upstream,
        trust=intermediates.trust,
        standings=intermediates.standings,
        views=revocation.views,
        clock=clock,
        metrics=metrics,
    )
    feed.subscribe(AUTHORITIES_CHANGED, upper.heed)
    revocation.views.subscribe(upper.heed)
    revocation.state.subscribe(lambda: cut_off(revocation.state, ledger, leaves))
    effects = EffectTracker(
        view=revocation.views.current,
        ledger=ledger,
        carried=shared.carried,
        effects=Effects(engine),
        writer=writer,
        clock=clock,
        metrics=metrics,
        trust_domain=settings.trust_domain,
        replica=settings.replica,
    )
    revocation.views.subscribe(effects.pushed)
    revocation.views.subscribe(ledger.wake_all)
    authorities.subscribe(ledger.wake_all)
    policies.state.subscribe(ledger.wake_all)
    history = PolicyHistory(loader=policies, writer=writer, clock=clock)
    policies.state.subscribe(history.heed)
    token_keys.subscribe(ledger.wake_all)
    pods.subscribe(ledger.wake_pods)
    bundles.federation.subscribe(ledger.wake_all)
    admission = Admission(
        authenticator=authenticator,
        authorities=authorities,
        inventory=Inventory(engine),
        refusals=refusals,
        clock=clock,
        trust_domain=settings.trust_domain,
        check_caller=revocation.state.check_caller,
        check_serial=revocation.state.check_serial,
    )
    workloads = Workloads(ledger, shared.labels)
    decisions = build_decisions(
        settings,
        policies=policies.state,
        admission=admission,
        workloads=workloads,
        engine=engine,
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    decisions.recorder.observers.subscribe(staging.watch.observe)
    doors = Doors(
        admission=admission,
        leaves=leaves,
        shared=shared,
        ledger=ledger,
        istio=IstioCertificates(
            issuance=issuance,
            authorities=authorities,
            told=lambda caller: intermediates.gates.propagation.told(caller.holder),
        ),
        clock=clock,
        metrics=metrics,
        meters=meters_by_type(metrics),
        heard=effects.heard,
        checks=decisions.checks,
        access_logs=decisions.access_logs,
    )
    admin = build_admin(
        settings,
        authorities=authorities,
        revocation=revocation.state,
        refusals=refusals,
        workload_of=lambda caller: workloads.find(caller, {}),
        policies=lambda: policies.state.current,
        recorder=decisions.recorder,
        engine=engine,
        writer=writer,
        clock=clock,
    )
    return Service(
        settings=settings,
        clock=clock,
        metrics=metrics,
        engine=engine,
        writer=writer,
        refusals=refusals,
        gaps=gaps,
        authorities=authorities,
        intermediates=intermediates,
        issuance=issuance,
        leaves=leaves,
        authenticator=authenticator,
        policies=policies,
        history=history,
        pods=pods,
        token_keys=token_keys,
        staging=staging,
        ledger=ledger,
        decisions=decisions,
        doors=doors,
        identity=ServerIdentity(lambda: authorities.bundle.pem()),
        journal=bundles.journal,
        federation=bundles.federation,
        publisher=bundles.publisher,
        feed=feed,
        revocation=revocation,
        effects=effects,
        upper=upper,
        audit=build_audit(
            settings,
            engine=engine,
            writer=writer,
            feed=feed,
            locks=locks,
            clock=clock,
            metrics=metrics,
        ),
        admin=admin,
    )


def _profile(settings: Settings) -> Profile:
    return Profile(
        trust_domain=settings.trust_domain,
        lifetime=settings.lifetimes.svid,
        maximum_lifetime=settings.lifetimes.svid_maximum,
        backdate=settings.lifetimes.backdate,
        public_url=settings.public_url,
    )


def own_caller(service: Service) -> Caller:
    """Return the caller that our own listeners' certificate is issued to: this service."""
    spiffe_id = SpiffeId(service.settings.trust_domain, SERVER_PATH)
    return Caller(spiffe_id, Evidence(method="self"), datetime.max.replace(tzinfo=UTC))


def admin_state(service: Service, ready: Callable[[], Awaitable[list[str]]]) -> AdminState:
    """Return what the admin doors stand on."""

    async def renew(spiffe_id: str) -> int:
        return service.leaves.renew_now(spiffe_id)

    return AdminState(
        trust_domain=service.settings.trust_domain,
        version=version("meshca"),
        started_at=service.clock.now(),
        access=service.admin.access,
        applications=service.admin.applications,
        clock=service.clock,
        engine=service.engine,
        writer=service.writer,
        inventory=Inventory(service.engine),
        log=service.audit.log,
        signer=service.audit.signer,
        outside=service.audit.outside.plan(),
        rules=service.audit.retention.rules,
        holds=service.audit.holds,
        authorities=service.authorities,
        bundle=service.journal.current,
        federation=service.federation,
        proxies=service.ledger,
        policies=service.policies.state,
        loader=service.policies,
        staging=service.staging,
        renew=renew,
        operations=AuthorityOperations(service.intermediates),
        revocations=service.revocation.operations,
        lists=service.revocation.lists.current,
        ready=ready,
    )
