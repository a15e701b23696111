"""The counters of one resource type, looked up once instead of at every push."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from meshca.metrics import Metrics
from sds.resources import EXTENSION_TYPE, SECRET_TYPE


@dataclass(frozen=True, slots=True)
class Meters:
    """What happens to the pushes of one type."""

    pushes: Counter
    acks: Counter
    nacks: Counter
    stale: Counter
    push_to_ack_seconds: Histogram


def meters_by_type(metrics: Metrics) -> Mapping[str, Meters]:
    """Return the meters of each resource type, by its URL."""
    return {url: _meters(metrics, url.rpartition(".")[2]) for url in (SECRET_TYPE, EXTENSION_TYPE)}


def _meters(metrics: Metrics, kind: str) -> Meters:
    return Meters(
        pushes=metrics.pushes.labels(kind),
        acks=metrics.answers.labels(kind, "ack"),
        nacks=metrics.answers.labels(kind, "nack"),
        stale=metrics.answers.labels(kind, "stale"),
        push_to_ack_seconds=metrics.push_to_ack_seconds,
    )
