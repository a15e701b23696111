"""Policies in the whole language and requests, made at random from a small world of near misses.

Dots that a regular expression would read as "any", names of which one is a prefix of another, a
trust domain called `ns`, an alias and a foreign trust domain, identities without a namespace,
hosts that differ in case, dot or port, headers of several lines, addresses mapped into IPv6.

What is asked is what a client sends (`Asked`); `to_request` is the same for the engine.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from authz.load import load_policies
from authz.policy import Default, PolicySet
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.authz.builders import ROOT_NAMESPACE, TRUST_DOMAIN, document, to_yaml
from tests.authz.proxy import Client, Message, Ports

ALIAS = "old.example"
WORKLOAD = Workload("shop", {"app": "orders", "version": "v1"})
PRINCIPALS = (
    *("example.org/ns/shop/sa/web", "example.org/ns/shop/sa/web.x", "example.org/ns/shop/sa/webax"),
    *("example.org/ns/shop-2/sa/web", "example.org/ns/prod-shop/sa/api"),
    *("example.org/ns/prod/sa/shop", "example.org/ns/shop", "example.org/team/shop/sa/web"),
    *("example.org/ns/shop/sa/web/x", "old.example/ns/shop/sa/web", "exampleaorg/ns/shop/sa/web"),
    *("example.org.evil/ns/shop/sa/web", "partner.net/ns/shop/sa/web", "ns/shop/sa/web"),
    "example.org/ns/x.net/sa/web",
)
_SOURCE = {
    "principals": (
        *PRINCIPALS,
        *("*", "example.org/*", "example.org/ns/shop/*", "example.org/ns/shop*", "ns/*", "*.x"),
        *("example.org/ns/shop/sa/web*", "*/sa/web", "*web", "*/ns/shop/sa/web", "*x"),
        *("*/shop/sa/web", "cluster.local/ns/shop/sa/web"),
    ),
    "namespaces": ("shop", "shop-2", "prod-shop", "shop*", "sh*", "*-shop", "*shop", "*2", "*"),
    "serviceAccounts": ("shop/web", "web", "shop/web.x", "prod/shop", "shop-2/web"),
    "trustDomains": ("example.org", "partner.net", "example.org*", "*.net", "*", "ns", "*rg"),
    "ipBlocks": (
        *("127.0.0.1", "127.0.0.2/31", "127.0.0.0/8", "0.0.0.0/0", "::1", "::/0", "10.0.0.0/8"),
    ),
    "remoteIpBlocks": (
        *("10.1.2.3", "10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32", "::/0", "0.0.0.0/0"),
    ),
}
_TOKEN_SOURCE = {"requestPrincipals": ("https://iss.test/alice", "https://iss.test/*", "*/bob")}
_OPERATION = {
    "hosts": (
        *("shop.test", "*.test", "shop.*", "shop.test:8443", "shop.test:*", "*:8443", "*"),
        *("SHOP.test", "www.*", "*.test:8443", "shop.test*", "shop.test:8*"),
    ),
    "methods": ("GET", "POST", "P*", "*T", "PUT", "*"),
    "paths": (
        *("/", "/api", "/api/v1", "/api.v1", "/a+b", "/x;y", "/*", "/api*", "/api/*", "/api/v1*"),
        *("*.json", "*/v1", "*v1", "*", "*1.json", "*+b", "/api/{*}", "/api/{**}", "/{*}/v1"),
        *("/api/{*}/x/{**}", "/a+b/{*}", "/api.v1/{**}", "/{*}/{*}", "/api/{**}/v1"),
    ),
}
_IDENTITY_FIELDS = ("principals", "namespaces", "serviceAccounts", "trustDomains")
_CONDITIONS = {
    "request.headers[x-role]": ("admin", "adm*", "*min", "*", "user,admin", "user"),
    "request.headers[X-Team]": ("a.b", "a*", "*", "x"),
    "source.ip": _SOURCE["ipBlocks"],
    "remote.ip": _SOURCE["remoteIpBlocks"],
    "destination.ip": ("127.0.0.1", "::1", "127.0.0.0/8", "10.0.0.0/8"),
    "connection.sni": ("a.http.test", "a.*", "*.http.test", "*", "B.http.test", "b.*"),
    "source.principal": _SOURCE["principals"],
    "source.namespace": _SOURCE["namespaces"],
    "source.trustDomain": _SOURCE["trustDomains"],
    "source.serviceAccount": _SOURCE["serviceAccounts"],
}
_TOKEN_CONDITIONS = {
    "request.auth.principal": _TOKEN_SOURCE["requestPrincipals"],
    "request.auth.audiences": ("shop", "sh*", "other"),
    "request.auth.claims[groups]": ("admin", "*"),
}
METHODS = ("GET", "POST", "PUT", "DELETE")
PATHS = (
    *("/", "/api", "/api/", "/api/v1", "/api.v1", "/apixv1", "/a+b", "/x;y", "/x", "/Api/v1"),
    *("/api/v1?x=1", "/api?/v1", "/zzz?.json", "/api/v1.json", "/api/v1xjson", "/1.json?a=/b?c"),
    *("/api/v1?", "/aab", "/y/api/v1", "/api/*", "/api/a/x/", "/api/a/x/b/c", "/api/a?/x/b"),
    *("/a+b/c", "/api.v1/", "/api/%2B/v1", "/api/v1/v1", "/*/v1"),
)
HOSTS = (
    *("shop.test", "SHOP.Test", "shop.test.", "shop.test:8443", "shop.test.:8443", "shop.test:80"),
    *("www.", "www.a", "www.:80", "shopxtest", "shop.test..", "other.test", "[::1]:8443"),
    *("shop.testing", "a.shop.test"),
)
ROLES: tuple[tuple[str, ...], ...] = (
    *((), ("admin",), ("user",), ("user", "admin"), ("admin", "user"), ("user,admin",)),
    *(("user, admin",), ("",), ("admin\xff",), ("\xff",), ("Admin",), ("admin ", "")),
)
TEAMS: tuple[tuple[str, ...], ...] = ((), (), ("a.b",), ("axb",), ("x", "a.b"))
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9", "::1")
FORWARDED = (None, None, "10.1.2.3", "11.0.0.1", "::ffff:10.1.2.3", "2001:db8::7", "junk")
SERVER_NAMES = (None, "a.http.test", "b.http.test", "A.HTTP.test", "other.test")
CLAIMS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"iss": "https://iss.test", "sub": "alice", "aud": ["shop"], "groups": ["admin", "user"]},
    {"iss": "https://iss.test", "sub": "bob", "aud": "other"},
)


@dataclass(frozen=True)
class Asked:
    """One request as a client sends it; without `message` it is a TCP connection.

    A client without a principal connects without TLS. `forwarded` is what a proxy in front says.
    """

    principal: str | None
    port: int
    address: str
    sni: str | None
    message: Message | None
    forwarded: str | None = None

    @property
    def client(self) -> Client:
        """Return who sends it."""
        uris = () if self.principal is None else (f"spiffe://{self.principal}",)
        return Client(uris, self.port, self.address, self.sni)


def make_documents(random: Random, ports: tuple[int, ...], *, checks: bool) -> list[dict[str, Any]]:
    """Return some documents for `WORKLOAD` or its neighbours; `checks`: what needs Check, too."""
    documents = []
    for number in range(random.choice((0, 1, 1, 2, 2, 3, 4))):
        documents.append(_policy(random, number, ports, checks=checks))
    for number in range(random.choice((0, 0, 1, 2))):
        documents.append(_peer_authentication(random, number, ports))
    return documents


def _policy(random: Random, number: int, ports: tuple[int, ...], *, checks: bool) -> dict[str, Any]:
    action = random.choice((None, "ALLOW", "DENY", "DENY", *(("CUSTOM",) if checks else ())))
    rules: Any = [
        _rule(random, ports, checks=checks, custom=action == "CUSTOM")
        for _ in range(random.choice((1, 1, 2, 3)))
    ]
    if action is None and random.random() < 0.1:
        rules = None
    namespace = random.choice(("shop", "shop", "shop", "meshca", "shop-2"))
    selector = random.choice((None, None, None, {"app": "orders"}, {"app": "payments"}))
    written = document(f"policy-{number}", namespace, action=action, rules=rules, selector=selector)
    annotations = {}
    if random.random() < 0.15:
        annotations["meshca.io/stage"] = random.choice(("shadow", "draft"))
    if checks and random.random() < 0.2:
        annotations["meshca.io/expires"] = "2026-11-21T00:00:00Z"
    if annotations:
        written["metadata"]["annotations"] = annotations
    if action == "CUSTOM":
        written["spec"]["provider"] = {"name": "guard"}
    return written


def _rule(random: Random, ports: tuple[int, ...], *, checks: bool, custom: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if random.random() < 0.8:
        rule["from"] = [
            {"source": _source(random, checks=checks, custom=custom)}
            for _ in range(random.choice((1, 1, 2)))
        ]
    if random.random() < 0.4:
        http = random.random() < 0.6
        rule["to"] = [
            {"operation": _operation(random, ports, http=http)}
            for _ in range(random.choice((1, 1, 2)))
        ]
    if random.random() < 0.3:
        # Where only some sources name trust domains, a namespace in `when` is refused as ambiguous.
        rule["when"] = [
            _condition(random, checks=checks, custom=custom)
            for _ in range(random.choice((1, 1, 2)))
        ]
    return rule


def _values(random: Random, choices: tuple[str, ...]) -> list[str]:
    return random.sample(choices, min(random.choice((1, 1, 1, 2, 3)), len(choices)))


def _field(random: Random, name: str, choices: tuple[str, ...]) -> dict[str, list[str]]:
    if random.random() < 0.25:
        name = f"not{name[0].upper()}{name[1:]}"
    return {name: _values(random, choices)}


def _source(random: Random, *, checks: bool, custom: bool) -> dict[str, list[str]]:
    fields: dict[str, tuple[str, ...]] = dict(_SOURCE)
    if random.random() < 0.3:
        fields = {n: v for n, v in fields.items() if n not in ("principals", "namespaces")}
    else:
        del fields["serviceAccounts"]
    if checks:
        fields |= _TOKEN_SOURCE
    if custom:
        fields = {name: _SOURCE[name] for name in ("ipBlocks", "remoteIpBlocks")}
    weights = {"principals": 0.5, "namespaces": 0.5, "serviceAccounts": 0.5}
    source: dict[str, list[str]] = {}
    while not source:
        for name, choices in fields.items():
            if random.random() < weights.get(name, 0.15):
                source |= _field(random, name, choices)
    return source


def _operation(random: Random, ports: tuple[int, ...], *, http: bool) -> dict[str, list[str]]:
    operation: dict[str, list[str]] = {}
    while not operation:
        for name, choices in _OPERATION.items() if http else ():
            if random.random() < 0.4:
                operation |= _field(random, name, choices)
        if random.random() < 0.25:
            operation |= _field(random, "ports", tuple(str(port) for port in ports))
    return operation


def _condition(random: Random, *, checks: bool, custom: bool) -> dict[str, Any]:
    conditions = _CONDITIONS | (_TOKEN_CONDITIONS if checks else {})
    if custom:
        conditions = {k: v for k, v in _CONDITIONS.items() if not k.startswith("source.")}
    key = random.choice(list(conditions))
    values = random.choice((("values",), ("values",), ("notValues",), ("values", "notValues")))
    return {"key": key, **{name: _values(random, conditions[key]) for name in values}}


def _peer_authentication(random: Random, number: int, ports: tuple[int, ...]) -> dict[str, Any]:
    mode = random.choice(("STRICT", "PERMISSIVE", "UNSET", "DISABLE"))
    spec: dict[str, Any] = {"mtls": {"mode": mode}}
    if random.random() < 0.5:
        spec["selector"] = {"matchLabels": {"app": "orders"}}
        spec["portLevelMtls"] = {
            str(random.choice(ports)): {"mode": random.choice(("STRICT", "PERMISSIVE"))}
        }
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": f"mode-{number}", "namespace": random.choice(("shop", "meshca"))},
        "spec": spec,
    }


def load_world(documents: list[dict[str, Any]], default: Default) -> PolicySet:
    """Return the set of `documents` in this world."""
    return load_policies(
        [("policy.yaml", to_yaml(*documents))],
        trust_domain=TRUST_DOMAIN,
        root_namespace=ROOT_NAMESPACE,
        default=default,
        aliases=(ALIAS,),
        providers=("guard",),
    )


def make_clients(random: Random, ports: Ports) -> list[Asked]:
    """Return clients of all kinds, which have asked nothing yet; one in ten without TLS."""
    return [_client(random, ports) for _ in range(150)]


def _client(random: Random, ports: Ports) -> Asked:
    address = random.choice(ADDRESSES) if random.random() < 0.4 else ADDRESSES[0]
    if random.random() < 0.1:
        return Asked(None, ports.plaintext, address, None, None)
    sni = random.choice(SERVER_NAMES) if random.random() < 0.3 else None
    port = random.choice((ports.first, ports.second))
    return Asked(random.choice(PRINCIPALS), port, address, sni, None)


def make_asked(random: Random, client: Asked) -> Asked:
    """Return an HTTP request of `client`."""
    forwarded = random.choice(FORWARDED)
    lines = [
        *(("x-role", value) for value in random.choice(ROLES)),
        *(("x-team", value) for value in random.choice(TEAMS)),
        *((("x-forwarded-for", forwarded),) if forwarded else ()),
    ]
    host = random.choice(HOSTS) if random.random() < 0.5 else HOSTS[0]
    message = Message(random.choice(METHODS), random.choice(PATHS), host, tuple(lines))
    return replace(client, message=message, forwarded=forwarded)


def make_connection(random: Random, ports: Ports, case: int) -> Asked:
    """Return a TCP connection to `case`."""
    sni = f"{random.choice(('a', 'b'))}.case-{case}.test"
    port = random.choice((ports.first, ports.second))
    return Asked(random.choice(PRINCIPALS), port, random.choice(ADDRESSES), sni, None)


def to_request(
    asked: Asked, *, claims: dict[str, Any] | None = None, time: float | None = None
) -> Request:
    """Return `asked`, sent to `WORKLOAD`, as the engine takes it."""
    principal = asked.principal
    remote = asked.forwarded if asked.forwarded not in (None, "junk") else asked.address
    return Request(
        None if principal is None else SpiffeId.parse(f"spiffe://{principal}"),
        WORKLOAD,
        asked.port,
        None if asked.message is None else _http(asked.message, claims),
        source_ip=asked.address,
        remote_ip=remote,
        destination_ip="::1" if ":" in asked.address else "127.0.0.1",
        sni=None if asked.sni is None else asked.sni.lower(),
        time=time,
    )


def _http(message: Message, claims: dict[str, Any] | None) -> Http:
    headers: dict[str, str] = {}
    for name, value in message.lines:
        text = value.strip(" ")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return Http(message.method, message.path, message.host, headers, claims)
