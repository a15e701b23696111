"""One request to decide about, and its facts: the value it has for each attribute of the language.

The proxy's view is taken as it is: the path already normalised, the port the one that the
connection was made to. The query is not part of the path. What a caller of the decision did not
say (None) is unknown, which is not the same as empty: see `authz.policy`.
"""

from dataclasses import dataclass

from authz.policy import Facts, Workload
from meshca.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Http:
    """What only an HTTP request has; `path` may carry a query."""

    method: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request or, without `http`, one TCP connection.

    `source` is the peer's verified identity, None when it has none (plaintext).
    """

    source: SpiffeId | None
    destination: Workload
    port: int | None = None
    http: Http | None = None


def facts_of(request: Request, trust_domain: str) -> Facts:
    """Return the facts of `request` in the order of `authz.policy.Attribute`."""
    principal, namespace = identity_facts(request.source, trust_domain)
    port = None if request.port is None else str(request.port)
    http = request.http
    if http is None:
        return (principal, namespace, port, None, None)
    path = None if http.path is None else http.path.partition("?")[0]
    return (principal, namespace, port, http.method, path)


def identity_facts(source: SpiffeId | None, trust_domain: str) -> tuple[str | None, str | None]:
    """Return the principal (the ID without `spiffe://`) and the namespace of a peer.

    The namespace is the segment after a leading `/ns/`; a peer of another trust domain has none.
    """
    if source is None:
        return None, None
    path = source.path
    if source.trust_domain != trust_domain or not path.startswith("/ns/"):
        return source.trust_domain + path, None
    return trust_domain + path, path.split("/", 3)[2]


def is_malformed_path(path: str) -> bool:
    """Return whether `path` is one that no proxy of ours passes on: not absolute, or with a `#`."""
    return not path.startswith("/") or "#" in path
