"""Every metric of the service, in one frozen object that wiring hands to those who count.

Names follow the field's (`citadel_server_*` users will find their way); labels are bounded sets:
never an identity, a serial or anything a caller can invent.
"""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meshca.metrics_anchors import AnchorMetrics
from meshca.metrics_sinks import SinkMetrics

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_EFFECT = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The service's metrics, registered in `registry` (by default one of their own)."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    issuance: Counter = field(init=False)
    issuance_seconds: Histogram = field(init=False)
    tokens: Counter = field(init=False)
    streams: Gauge = field(init=False)
    pushes: Counter = field(init=False)
    answers: Counter = field(init=False)
    push_to_ack_seconds: Histogram = field(init=False)
    soonest_expiry: Gauge = field(init=False)
    rotation_lag_seconds: Gauge = field(init=False)
    rotation_failures: Counter = field(init=False)
    renewals_overdue: Gauge = field(init=False)
    commit_group_size: Histogram = field(init=False)
    commit_seconds: Histogram = field(init=False)
    pending_writes: Gauge = field(init=False)
    refusals_unrecorded: Counter = field(init=False)
    audit_lost: Counter = field(init=False)
    policy_load_failures: Counter = field(init=False)
    policy_source_stale: Gauge = field(init=False)
    policy_source_current: Gauge = field(init=False)
    pod_labels_stale: Gauge = field(init=False)
    token_key_fetches: Counter = field(init=False)
    token_issuers_without_keys: Gauge = field(init=False)
    staged_change: Gauge = field(init=False)
    canary_fell_back: Counter = field(init=False)
    canary_denied_pairs: Gauge = field(init=False)
    canary_blind: Gauge = field(init=False)
    break_glass_in_force: Gauge = field(init=False)
    loop_failures: Counter = field(init=False)
    upstream_failures: Counter = field(init=False)
    federation_polls: Counter = field(init=False)
    federation_refreshed: Gauge = field(init=False)
    federation_stale: Gauge = field(init=False)
    bundle_publication_failures: Counter = field(init=False)
    bundle_publication_behind: Gauge = field(init=False)
    ocsp_answers: Counter = field(init=False)
    ocsp_signer_failures: Counter = field(init=False)
    crl_entries: Gauge = field(init=False)
    crl_oldest: Gauge = field(init=False)
    crl_soonest_end: Gauge = field(init=False)
    crl_failures: Counter = field(init=False)
    crl_behind: Gauge = field(init=False)
    upper_lists: Gauge = field(init=False)
    revocation_time_to_effect_seconds: Histogram = field(init=False)
    revocation_proxies_behind: Gauge = field(init=False)
    authz_checks: Counter = field(init=False)
    authz_check_seconds: Histogram = field(init=False)
    authz_disagreements: Counter = field(init=False)
    decisions_unrecorded: Counter = field(init=False)
    access_log_entries: Counter = field(init=False)
    audit_checkpoints: Counter = field(init=False)
    audit_log_inconsistent: Gauge = field(init=False)
    audit_index_lag: Gauge = field(init=False)
    anchors: AnchorMetrics = field(init=False)
    sinks: SinkMetrics = field(init=False)

    def __post_init__(self) -> None:
        for name, metric in _build(self.registry).items():
            object.__setattr__(self, name, metric)
        object.__setattr__(self, "anchors", AnchorMetrics(self.registry))
        object.__setattr__(self, "sinks", SinkMetrics(self.registry))


def _build(r: CollectorRegistry) -> dict[str, Counter | Gauge | Histogram]:
    return {
        "issuance": Counter(
            "meshca_issuance", "Certificates asked for, by outcome.", ["outcome"], registry=r
        ),
        "issuance_seconds": Histogram(
            "meshca_issuance_seconds",
            "Time from request to signed certificate, durable record included.",
            ["outcome"],
            registry=r,
            buckets=_LATENCY,
        ),
        "tokens": Counter(
            "meshca_token_validation",
            "Tokens validated, by outcome code and by whether the answer came from the cache.",
            ["outcome", "cache"],
            registry=r,
        ),
        "streams": Gauge(
            "meshca_streams", "Open xDS streams, by service.", ["service"], registry=r
        ),
        "pushes": Counter(
            "meshca_pushes", "xDS responses sent, by resource type.", ["type"], registry=r
        ),
        "answers": Counter(
            "meshca_answers",
            "Answers of proxies to pushes: ack, nack or stale.",
            ["type", "answer"],
            registry=r,
        ),
        "push_to_ack_seconds": Histogram(
            "meshca_push_to_ack_seconds",
            "Time from push to the proxy's ACK.",
            registry=r,
            buckets=_LATENCY,
        ),
        "soonest_expiry": Gauge(
            "meshca_soonest_expiry_timestamp_seconds",
            "Unix time at which the first certificate of a kind (root, intermediate, leaf, server) "
            "expires; for upstream_token, the token that nobody but you can replace.",
            ["kind"],
            registry=r,
        ),
        "rotation_lag_seconds": Gauge(
            "meshca_rotation_lag_seconds",
            "How far the most overdue renewal is behind its instant; 0 when none is.",
            registry=r,
        ),
        "rotation_failures": Counter(
            "meshca_rotation_failures", "Renewals that failed and will be retried.", registry=r
        ),
        "renewals_overdue": Gauge(
            "meshca_renewals_overdue",
            "Certificates past their renewal instant whose renewal has failed at least once. Alert "
            "on > 0: at default lifetimes there is at least 18 minutes left.",
            registry=r,
        ),
        "commit_group_size": Histogram(
            "meshca_commit_group_size",
            "Submissions written by one database transaction.",
            registry=r,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        ),
        "commit_seconds": Histogram(
            "meshca_commit_seconds",
            "Duration of a group's transaction.",
            registry=r,
            buckets=_LATENCY,
        ),
        "pending_writes": Gauge(
            "meshca_pending_writes", "Submissions waiting for their commit.", registry=r
        ),
        "refusals_unrecorded": Counter(
            "meshca_refusals_unrecorded",
            "Refusals whose audit entry was folded into a later count because too many came at "
            "once.",
            registry=r,
        ),
        "audit_lost": Counter(
            "meshca_audit_lost",
            "Records that nobody waited for and that the database did not take, by what they were; "
            "the audit log says so in a gap.",
            ["what"],
            registry=r,
        ),
        "policy_load_failures": Counter(
            "meshca_policy_load_failures",
            "Policy sets that did not load; the last good set stayed in force.",
            registry=r,
        ),
        "staged_change": Gauge(
            "meshca_authz_staged_change",
            "1 for the stage that a staged change of policy is at.",
            ["stage"],
            registry=r,
        ),
        "canary_fell_back": Counter(
            "meshca_authz_canary_fell_back",
            "Canaries that were taken back by themselves, as this process has heard of it.",
            registry=r,
        ),
        "canary_denied_pairs": Gauge(
            "meshca_authz_canary_denied_pairs",
            "Pairs of peer and destination that the canary has denied within its window and that "
            "were allowed before it.",
            registry=r,
        ),
        "canary_blind": Gauge(
            "meshca_authz_canary_blind",
            "1 when no decision of the canary's namespaces has been heard of for its window: what "
            "it denies is not seen.",
            registry=r,
        ),
        "break_glass_in_force": Gauge(
            "meshca_authz_break_glass_in_force",
            "What is in force by emergency: approved break-glass policies, and bypasses.",
            ["kind"],
            registry=r,
        ),
        "policy_source_stale": Gauge(
            "meshca_policy_source_stale",
            "1 when a source of policies does not answer, or lacks a kind; what was read before "
            "stays in force.",
            ["source"],
            registry=r,
        ),
        "policy_source_current": Gauge(
            "meshca_policy_source_current_timestamp_seconds",
            "Unix time at which what is held of a source of policies was last known to be current; "
            "0: not since the start.",
            ["source"],
            registry=r,
        ),
        "token_key_fetches": Counter(
            "meshca_token_key_fetches",
            "Fetches of the keys of token issuers that RequestAuthentication names, by outcome.",
            ["outcome"],
            registry=r,
        ),
        "token_issuers_without_keys": Gauge(
            "meshca_token_issuers_without_keys",
            "Token issuers whose keys were never fetched: each of their tokens is refused.",
            registry=r,
        ),
        "pod_labels_stale": Gauge(
            "meshca_pod_labels_stale",
            "1 when the pods of a cluster cannot be watched; the labels are those of before.",
            ["cluster"],
            registry=r,
        ),
        "loop_failures": Counter(
            "meshca_loop_failures",
            "Background loops that failed for an unforeseen reason and were started again.",
            ["loop"],
            registry=r,
        ),
        "federation_polls": Counter(
            "meshca_federation_polls",
            "Fetches of a federated trust domain's bundle: ok, failed (not had) or refused.",
            ["trust_domain", "outcome"],
            registry=r,
        ),
        "federation_refreshed": Gauge(
            "meshca_federation_refreshed_timestamp_seconds",
            "Unix time at which a federated bundle was last fetched and found good.",
            ["trust_domain"],
            registry=r,
        ),
        "federation_stale": Gauge(
            "meshca_federation_stale",
            "1 when a federated bundle has missed three refreshes; the last good one is in force.",
            ["trust_domain"],
            registry=r,
        ),
        "bundle_publication_failures": Counter(
            "meshca_bundle_publication_failures",
            "Writes of our bundle to a cluster that failed and will be retried.",
            ["cluster", "kind"],
            registry=r,
        ),
        "bundle_publication_behind": Gauge(
            "meshca_bundle_publication_behind",
            "Places in a cluster that do not hold our bundle as it is now.",
            ["cluster", "kind"],
            registry=r,
        ),
        "crl_entries": Gauge(
            "meshca_crl_entries",
            "Certificates on the revocation lists in force, by whose lists: issuer is who signs "
            "leaves, above the CAs over them.",
            ["kind"],
            registry=r,
        ),
        "crl_oldest": Gauge(
            "meshca_crl_oldest_timestamp_seconds",
            "Unix time at which the oldest revocation list in force was signed; 0 without any.",
            ["kind"],
            registry=r,
        ),
        "crl_soonest_end": Gauge(
            "meshca_crl_soonest_next_update_timestamp_seconds",
            "Unix time of the first nextUpdate of the revocation lists in force; 0 without any. "
            "The list of an authority ends with it.",
            ["kind"],
            registry=r,
        ),
        "crl_failures": Counter(
            "meshca_crl_failures",
            "Revocation lists that could not be made or had: step sign, store, or fetch (from the "
            "upstream). They are tried again.",
            ["kind", "step"],
            registry=r,
        ),
        "crl_behind": Gauge(
            "meshca_crl_behind",
            "Authorities whose list does not say what is revoked: cause failed (it is tried "
            "again), or unheld (nobody has the key).",
            ["kind", "cause"],
            registry=r,
        ),
        "revocation_time_to_effect_seconds": Histogram(
            "meshca_revocation_time_to_effect_seconds",
            "Time from the decision to revoke until the last connected proxy of this replica has "
            "acknowledged it.",
            registry=r,
            buckets=_EFFECT,
        ),
        "revocation_proxies_behind": Gauge(
            "meshca_revocation_proxies_behind",
            "Connected proxies that have not acknowledged a revocation 30 s after its push.",
            registry=r,
        ),
        "authz_checks": Counter(
            "meshca_authz_checks",
            "Requests that proxies asked about over ext_authz, by verdict: allow, deny, or error "
            "(denied because it could not be decided).",
            ["verdict"],
            registry=r,
        ),
        "authz_check_seconds": Histogram(
            "meshca_authz_check_seconds",
            "Time from an ext_authz request to its answer, providers included.",
            registry=r,
            buckets=_LATENCY,
        ),
        "authz_disagreements": Counter(
            "meshca_authz_disagreements",
            "Requests that a proxy decided otherwise than the policy set in force does, though "
            "neither a change under way nor an unknown fact explains it.",
            ["proxy"],
            registry=r,
        ),
        "decisions_unrecorded": Counter(
            "meshca_decisions_unrecorded",
            "Decisions that were not recorded: rate (too many denials), rows (too many different "
            "operations), database (away for a minute), flood (too many access log entries).",
            ["reason"],
            registry=r,
        ),
        "access_log_entries": Counter(
            "meshca_access_log_entries",
            "Access log entries of proxies: recorded, checked (recorded by ext_authz), none (no "
            "decision of policy), malformed, flood.",
            ["outcome"],
            registry=r,
        ),
        "upper_lists": Gauge(
            "meshca_revocation_upper_lists",
            "CAs above our intermediates, by what their revocation list is: current, ending (an "
            "eighth of its validity is left), missing (none will do, so that proxies of the SPIFFE "
            "flavour get no lists).",
            ["state"],
            registry=r,
        ),
        "ocsp_answers": Counter(
            "meshca_ocsp_answers",
            "What was said over OCSP, a certificate or a failure each: good, revoked, unknown, "
            "malformed, unauthorized, try_later.",
            ["status"],
            registry=r,
        ),
        "ocsp_signer_failures": Counter(
            "meshca_ocsp_signer_failures",
            "OCSP signers that were to be certified and were not, and will be tried again; the one "
            "before goes on to its end.",
            registry=r,
        ),
        "audit_checkpoints": Counter(
            "meshca_audit_checkpoints",
            "Checkpoints of the audit log: signed, failed (will be tried again), refused (the log "
            "is not what was signed for).",
            ["outcome"],
            registry=r,
        ),
        "audit_log_inconsistent": Gauge(
            "meshca_audit_log_inconsistent",
            "1 while the audit log does not begin with what was signed for: rolled back or "
            "rewritten. Alert on > 0.",
            registry=r,
        ),
        "upstream_failures": Counter(
            "meshca_upstream_failures",
            "What the upstream authority did not do: login, renew, sign, roots, crl, signature.",
            ["step"],
            registry=r,
        ),
        "audit_index_lag": Gauge(
            "meshca_audit_index_lag_entries",
            "Entries of the audit log that the search index does not hold yet: queries read them "
            "one by one. Fewer than 1,024 are usual.",
            registry=r,
        ),
    }
