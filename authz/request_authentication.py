"""RequestAuthentication: whose tokens a workload's requests may carry, and where.

It never demands a token: a request without one passes on, one with an invalid one is refused
(401) by the proxy. What a valid one says is then there for policies (requestPrincipals,
request.auth.*).
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FromHeader:
    """A header that may carry the token, after `prefix`."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """One issuer: its audiences (none: any), its keys, where tokens are, and what is passed on.

    Keys are `jwks` (a JSON text) or fetched from `jwks_uri`; with neither, from the issuer's
    OpenID discovery document. Without `headers`, `params` and `cookies` a token is in
    `Authorization: Bearer` or in the query parameter `access_token`.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    jwks_uri: str = ""
    headers: tuple[FromHeader, ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 5.0


@dataclass(frozen=True)  # without slots: thousands are moved at once (authz.load_memory)
class RequestAuthentication:
    """One document; it applies beside every other that selects the workload."""

    namespace: str
    name: str
    selector: frozenset[tuple[str, str]]
    gateways: frozenset[str]
    rules: tuple[JwtRule, ...]
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
