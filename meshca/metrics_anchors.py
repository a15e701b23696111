"""The metrics of anchors and of witnessing: part of `meshca.metrics.Metrics`."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

WITNESS_OUTCOMES = (
    "cosigned",
    "malformed",
    "unknown_log",
    "not_signed",
    "stale",
    "split_view",
    "inconsistent",
    "bad_proof",
    "too_often",
    "unavailable",
    "forgotten",
)


@dataclass(frozen=True, slots=True)
class AnchorMetrics:
    """What became of our checkpoints outside, and of those that others bring us."""

    registry: CollectorRegistry
    failures: Counter = field(init=False)
    behind: Gauge = field(init=False)
    contradicted: Gauge = field(init=False)
    witnessed: Counter = field(init=False)

    def __post_init__(self) -> None:
        for name, metric in _build(self.registry).items():
            object.__setattr__(self, name, metric)
        for outcome in WITNESS_OUTCOMES:
            self.witnessed.labels(outcome)  # so that the first one is seen to have come


def _build(r: CollectorRegistry) -> dict[str, Counter | Gauge]:
    return {
        "failures": Counter(
            "meshca_audit_anchor_failures",
            "Checkpoints that could not be taken to an anchor, and will be tried again.",
            ["anchor"],
            registry=r,
        ),
        "behind": Gauge(
            "meshca_audit_anchor_behind_seconds",
            "For how long an anchor has not had what it should have; 0 while all is well. Of the "
            "replica that takes checkpoints there.",
            ["anchor"],
            registry=r,
        ),
        "contradicted": Gauge(
            "meshca_audit_anchor_contradicted",
            "1 while an anchor holds what our log does not say: one of them was rolled back, "
            "rewritten, or there are two of it.",
            ["anchor"],
            registry=r,
        ),
        "witnessed": Counter(
            "meshca_audit_witness_checkpoints",
            "Checkpoints of other logs that were brought to us as a witness: cosigned, stale (held "
            "against another state than ours), split_view (two of one size), inconsistent (its "
            "proof begins with another log than we cosigned), bad_proof (it proves nothing), "
            "not_signed, unknown_log, malformed, too_often, unavailable, forgotten "
            "(our database knows less than we have cosigned).",
            ["outcome"],
            registry=r,
        ),
    }
