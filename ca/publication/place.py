"""What a place to publish to is, and how publishing went."""

from dataclasses import dataclass
from typing import Any, Protocol

from ca.bundle import TrustBundle


@dataclass(frozen=True, slots=True)
class Published:
    """How it went: how many objects were written, and what keeps others from being right.

    `behind` counts the objects that are not as they should be; `problems` says why, a few at most.
    An absent place (the API does not have it) is no failure.
    """

    written: int = 0
    behind: int = 0
    problems: tuple[str, ...] = ()
    is_absent: bool = False


class Place(Protocol):
    """One kind of object in one cluster."""

    @property
    def cluster(self) -> str:
        """Return the cluster's name in logs and metrics."""
        ...

    @property
    def kind(self) -> str:
        """Return what is written there: `config_map` or `cluster_trust_bundle`."""
        ...

    def publish(self, bundle: TrustBundle) -> Published:
        """Make every object hold `bundle`; blocking. Raises one of `api_server.FAILURES`."""
        ...


def explain(error: BaseException) -> str:
    """Return what an API server's refusal says, in one line, without the request."""
    status: Any = getattr(error, "status", None)
    reason: Any = getattr(error, "reason", None)
    if status:
        return f"{status} {reason}"
    return str(reason) if reason else type(error).__name__
