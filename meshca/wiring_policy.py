"""Building the parts of authorization policy from the configuration."""

from dataclasses import dataclass

import sqlalchemy as sa

from admin.decision_entries import DecisionEntries
from admin.staging_entries import staging_entry
from audit.gaps import Gaps
from authz.kubernetes.pods import PodLabels
from authz.kubernetes.watch import KubernetesPolicies
from authz.policy import PolicySet
from authz.providers import Providers
from authz.records.recorder import DecisionRecorder
from authz.records.retention import Retention
from authz.sources import PolicyLoader, PolicyOptions
from authz.staging.parts import Staging, join
from authz.state import PolicyState
from authz.store import POLICIES_CHANGED
from authz.token_fetch import KeyFetcher
from authz.token_keys import TokenKeys
from meshca.api_server import ApiServerConnection
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.policy_audit import SourceChanges
from meshca.settings import Settings
from sds.access_log import AccessLogs
from sds.admission import Admission
from sds.ext_authz import ExtAuthz
from sds.known_callers import KnownCallers
from sds.workloads import Workloads


def build_policies(
    settings: Settings,
    *,
    engine: sa.Engine,
    writer: GroupWriter,
    feed: ChangeFeed,
    gaps: Gaps,
    clock: Clock,
    metrics: Metrics,
) -> PolicyLoader:
    """Return the loader; until it has loaded, nothing is allowed."""
    policy = settings.policy
    nothing = PolicySet.empty(
        trust_domain=settings.trust_domain, root_namespace=policy.root_namespace
    )
    servers = [source.kubernetes for source in policy.sources if source.kubernetes is not None]
    loader = PolicyLoader(
        state=PolicyState(nothing),
        options=PolicyOptions(
            trust_domain=settings.trust_domain,
            root_namespace=policy.root_namespace,
            default=policy.default,
            directories=tuple(s.directory for s in policy.sources if s.directory is not None),
            aliases=tuple(policy.trust_domain_aliases),
            providers=frozenset(policy.providers),
        ),
        engine=engine,
        clock=clock,
        metrics=metrics,
        live=tuple(
            KubernetesPolicies(
                name="kubernetes" if index == 0 else f"kubernetes-{index + 1}",
                connection=ApiServerConnection(server),
                engine=engine,
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            for index, server in enumerate(servers)
        ),
        on_source_change=SourceChanges(writer, clock, gaps.lose).tell,
    )
    feed.subscribe(POLICIES_CHANGED, loader.heed)
    return loader


def build_pod_labels(settings: Settings, *, clock: Clock, metrics: Metrics) -> PodLabels:
    """Return the informer of the pods of each cluster that `policy.pods` names."""
    return PodLabels(
        connections={pods.cluster: ApiServerConnection(pods) for pods in settings.policy.pods},
        clock=clock,
        metrics=metrics,
    )


def build_token_keys(
    settings: Settings, policies: PolicyState, *, clock: Clock, metrics: Metrics
) -> TokenKeys:
    """Return what fetches the keys of the token issuers that `policies` name."""
    return TokenKeys(
        policies=lambda: policies.current,
        fetch=KeyFetcher(settings.policy.token_keys_ca_file).fetch,
        clock=clock,
        metrics=metrics,
    )


def build_staging(
    settings: Settings,
    *,
    loader: PolicyLoader,
    engine: sa.Engine,
    writer: GroupWriter,
    feed: ChangeFeed,
    clock: Clock,
    metrics: Metrics,
) -> Staging:
    """Return what lays staged changes and emergencies over what `loader` loads."""
    return join(
        loader,
        engine=engine,
        writer=writer,
        feed=feed,
        clock=clock,
        metrics=metrics,
        entry_of=staging_entry,
        denials=settings.policy.canary.denials,
        window=settings.policy.canary.window,
        replica=settings.replica,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionParts:
    """The doors of decisions and their records; `recorder.run` and `retention.run` are loops."""

    recorder: DecisionRecorder
    retention: Retention
    providers: Providers
    checks: ExtAuthz
    access_logs: AccessLogs

    async def close(self) -> None:
        """Write what is not written yet, and let go of the providers."""
        await self.recorder.close()
        await self.providers.close()


def build_decisions(
    settings: Settings,
    *,
    policies: PolicyState,
    admission: Admission,
    workloads: Workloads,
    engine: sa.Engine,
    writer: GroupWriter,
    clock: Clock,
    metrics: Metrics,
) -> DecisionParts:
    """Return what answers and hears proxies about decisions, and what keeps them."""
    recorder = DecisionRecorder(writer, clock, metrics, entries_of=DecisionEntries())
    providers = Providers(settings.policy.providers)
    callers = KnownCallers(admission)
    logs = AccessLogs(
        callers=callers,
        workloads=workloads,
        policies=lambda: policies.current,
        recorder=recorder,
        clock=clock,
        metrics=metrics,
    )
    policies.subscribe(logs.policy_changed)
    checks = ExtAuthz(
        callers=callers,
        workloads=workloads,
        policies=lambda: policies.current,
        providers=providers,
        recorder=recorder,
        clock=clock,
        metrics=metrics,
    )
    keep = settings.policy.records.keep
    return DecisionParts(
        recorder=recorder,
        retention=Retention(engine=engine, writer=writer, clock=clock, keep=keep),
        providers=providers,
        checks=checks,
        access_logs=logs,
    )
