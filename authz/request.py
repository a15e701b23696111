"""One request to decide about, and its facts: the value it has for each attribute of the language.

The proxy's view is taken as it is: the path already normalised, the port the one that the
connection was made to. The query is not part of the path; a host is compared in lower case and
without a final dot; a header's lines are joined by commas, as the documentation of Istio has it.
What a caller of the decision did not say (None) is unknown, which is not the same as empty: see
`authz.attributes`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from authz.attributes import Facts
from authz.values import SEPARATOR
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId

_SPACE_SEPARATED = ("scope", "permission")


@dataclass(frozen=True, slots=True)
class Http:
    """What only an HTTP request has; `path` may carry a query, `host` a port.

    `headers` are lower-case names and whole values. `claims` are those of the request's validated
    token, None for a request without one.
    """

    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: Mapping[str, str] | None = None
    claims: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request or, without `http`, one TCP connection.

    `source` is the peer's verified identity, None when it has none (plaintext). `source_ip` is who
    made the connection, `remote_ip` whom proxies in front of it name. `time` is in seconds since
    the epoch.
    """

    source: SpiffeId | None
    destination: Workload
    port: int | None = None
    http: Http | None = None
    source_ip: str | None = None
    remote_ip: str | None = None
    destination_ip: str | None = None
    sni: str | None = None
    time: float | None = None


def facts_of(request: Request, trust_domains: Collection[str]) -> Facts:
    """Return the facts of `request` in the order of `authz.attributes.Attribute`.

    `trust_domains` are the names of our own: peers of these have a namespace.
    """
    principal, namespace, account, trust_domain, any_namespace, any_account = identity_facts(
        request.source, trust_domains
    )
    port = None if request.port is None else str(request.port)
    http = request.http
    if http is None:
        method = path = host = headers = None
        said: tuple[Any, Any, Any, Any] = _NOT_HTTP
    else:
        method, headers = http.method, http.headers
        path = None if http.path is None else http.path.partition("?")[0]
        host = None if http.host is None else folded_host(http.host)
        said = _token_facts(http.claims) if http.claims else _NO_TOKEN
    sni = None if request.sni is None else request.sni.lower()
    request_principal, audiences, presenter, claims = said
    # One flat tuple, made at once: this is on the way of every decision.
    return (
        principal, namespace, port, method, path, account, trust_domain,
        any_namespace, any_account, request.source_ip, request.remote_ip,
        request.destination_ip, sni, host, headers,
        request_principal, audiences, presenter, claims,
    )  # fmt: skip


_NOT_HTTP: Final = (None, None, None, None)
_NO_TOKEN: Final[tuple[Any, Any, Any, Any]] = ((), (), (), {})


@lru_cache(maxsize=4096)
def folded_host(host: str) -> str:
    """Return `host` as hosts are compared: in lower case, without a final dot before the port."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not port.isdigit():
        return host.lower().removesuffix(".")
    return f"{name.removesuffix('.')}:{port}"


def _token_facts(claims: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    issuer, subject = claims.get("iss"), claims.get("sub")
    principal: Any = ()
    if isinstance(issuer, str) and isinstance(subject, str) and SEPARATOR not in issuer + subject:
        principal = issuer + SEPARATOR + subject
    return principal, claims.get("aud", ()), claims.get("azp", ()), _split(claims)


def _split(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `claims` with those that hold words between spaces as lists."""
    words = {
        name: claims[name].split() for name in _SPACE_SEPARATED if type(claims.get(name)) is str
    }
    return {**claims, **words} if words else claims


def peer_facts(source: SpiffeId | None, trust_domains: Collection[str]) -> Facts:
    """Return the facts of a request of which only the peer is known."""
    return facts_of(Request(source, Workload("")), trust_domains)


_NOBODY = (None, None, None, None, None, None)
Identity = tuple[str | None, str | None, str | None, str | None, str | None, str | None]


def identity_facts(source: SpiffeId | None, trust_domains: Collection[str]) -> Identity:
    """Return a peer's principal, namespace, service account, trust domain; and both of any domain.

    The principal is the ID without `spiffe://`; the namespace is the segment after a leading
    `/ns/`, the service account `namespace/account` of an ID that goes on with `/sa/account`. A
    peer of another trust domain has neither, except for the last two.
    """
    if source is None:
        return _NOBODY
    return _identity_facts(source.trust_domain, source.path, tuple(trust_domains))


@lru_cache(maxsize=16_384)
def _identity_facts(trust_domain: str, path: str, trust_domains: tuple[str, ...]) -> Identity:
    principal = trust_domain + path
    if not path.startswith("/ns/"):
        return principal, None, None, trust_domain, None, None
    segments = path.split("/")
    namespace = segments[2]
    account = None
    if len(segments) == 5 and segments[3] == "sa":
        account = f"{namespace}/{segments[4]}"
    if trust_domain not in trust_domains:
        return principal, None, None, trust_domain, namespace, account
    return principal, namespace, account, trust_domain, namespace, account


def is_malformed_path(path: str) -> bool:
    """Return whether `path` is one that no proxy of ours passes on: not absolute, or with a `#`."""
    return not path.startswith("/") or "#" in path
