"""The metrics of audit sinks: part of `meshca.metrics.Metrics`."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True)
class SinkMetrics:
    """How the audit log comes to collectors."""

    registry: CollectorRegistry
    behind: Gauge = field(init=False)
    lag_seconds: Gauge = field(init=False)
    delivered: Counter = field(init=False)
    lost: Counter = field(init=False)
    failures: Counter = field(init=False)

    def __post_init__(self) -> None:
        for name, metric in _build(self.registry).items():
            object.__setattr__(self, name, metric)


def _build(r: CollectorRegistry) -> dict[str, Counter | Gauge]:
    return {
        "behind": Gauge(
            "meshca_audit_sink_behind_entries",
            "Audit entries that a sink has not delivered yet; 0 at replicas that do not feed it.",
            ["sink"],
            registry=r,
        ),
        "lag_seconds": Gauge(
            "meshca_audit_sink_lag_seconds",
            "Age of the oldest audit entry that a sink has not delivered; 0 when there is none.",
            ["sink"],
            registry=r,
        ),
        "delivered": Counter(
            "meshca_audit_sink_delivered", "Audit entries delivered.", ["sink"], registry=r
        ),
        "lost": Counter(
            "meshca_audit_sink_lost",
            "Audit entries that a collector refused or threw away; each loss is a gap entry.",
            ["sink"],
            registry=r,
        ),
        "failures": Counter(
            "meshca_audit_sink_failures",
            "Deliveries of audit entries that failed and will be tried again.",
            ["sink"],
            registry=r,
        ),
    }
