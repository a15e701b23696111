"""The small world of `tests.authz.generated`: values that nearly match, and what they nearly match.

Dots that a regular expression would read as "any", namespaces and trust domains of which one is a
prefix of another, a trust domain called `ns`, identities without a namespace, paths that differ
in a query or a letter, hosts in capitals, header lines twice, issuers with slashes, addresses at
the edge of a block.
"""

from random import Random
from typing import Any

from authz.workload import GATEWAY_LABEL, Workload

ALIASES = ("old.example",)
PROVIDERS = ("opa", "opa-2")
PORTS = (8080, 9090)
LABELS = {"app": "orders", "version": "v1", GATEWAY_LABEL: "public"}
WORKLOAD = Workload("shop", LABELS)
GATEWAYS = ("public", "public-2")
PRINCIPALS = (
    "example.org/ns/shop/sa/web",
    "example.org/ns/shop/sa/web.x",
    "example.org/ns/shop/sa/webax",
    "example.org/ns/shop-2/sa/web",
    "example.org/ns/prod-shop/sa/api",
    "example.org/ns/prod/sa/shop",
    "example.org/ns/shop",
    "example.org/ns/shop/sa/web/pod/1",
    "example.org/team/shop/sa/web",
    "exampleaorg/ns/shop/sa/web",
    "example.org.evil/ns/shop/sa/web",
    "ns/shop/sa/web",
    "old.example/ns/shop/sa/web",
    "old.example/ns/shop-2/sa/api",
    "partner.test/ns/shop/sa/web",
    "cluster.local/ns/shop/sa/web",
)
PRINCIPAL_VALUES = (
    *PRINCIPALS,
    "*",
    "example.org/*",
    "example.org/ns/shop/*",
    "example.org/ns/shop*",
    "example.org/ns/shop/sa/*",
    "example.org/ns/shop/sa/web*",
    "cluster.local/ns/shop-2/sa/*",
    "ns/*",
    "*/sa/web",
    "*web",
    "*/ns/shop/sa/web",
    "*/shop/sa/web",
    "*.x",
    "*x",
)
NAMESPACE_VALUES = ("shop", "shop-2", "prod-shop", "shop*", "sh*", "*-shop", "*shop", "*2", "*")
SERVICE_ACCOUNT_VALUES = (
    *("web", "shop/web", "shop/web.x", "shop-2/web", "shop-2/api", "prod/shop", "meshca/web"),
)
TRUST_DOMAIN_VALUES = (
    *("example.org", "old.example", "partner.test", "example*", "example.org*", "*.org", "*org"),
    *("cluster.local", "ns", "*", "*.test"),
)
METHOD_VALUES = ("GET", "POST", "P*", "*T", "PUT", "*")
PATH_VALUES = (
    *("/", "/api", "/api/v1", "/api.v1", "/a+b", "/x;y", "/*", "/api*", "/api/*", "/api/v1*"),
    *("*.json", "*/v1", "*v1", "*", "*1.json", "*+b"),
)
TEMPLATES = (
    *("/api/{*}", "/{*}/v1", "/{*}", "/api/{**}", "/{**}", "/{**}/v1", "/{*}/{**}/v1", "/{*}/{*}"),
    *("/x/{*}/y.z", "/{*}/"),
)
METHODS = ("GET", "POST", "PUT", "DELETE")
PATHS = (
    *("/", "/api", "/api/", "/api/v1", "/api.v1", "/apixv1", "/a+b", "/x;y", "/x", "/Api/v1"),
    *("/api/v1?x=1", "/api?/v1", "/zzz?.json", "/api/v1.json", "/api/v1xjson", "/1.json?a=/b?c"),
    *("/api/v1?", "/aab", "/y/api/v1"),
)
TEMPLATE_PATHS = (
    *("/x/a/y.z", "/x/a/yaz", "/x/a/b/y.z", "/x/*/y.z", "/a/b/c/v1", "/api/a/b?c=/v1", "/v1"),
    *("/api/v1/", "/x/a%20b/y.z"),
)
HOST_VALUES = (
    *("orders.shop", "Orders.Shop", "orders.shop:*", "orders.shop:8080", "*.shop", "*shop:8080"),
    *("orders*", "*", "orders.shop.", "10.0.0.1"),
)
HOSTS = (
    *("orders.shop", "ORDERS.shop", "orders.shop:8080", "orders.shop:80", "orders.shop."),
    *("orders.shop.:8080", "ordersxshop", "x.orders.shop", "10.0.0.1", "orders.shop.evil"),
)
HEADER_VALUES = ("admin", "user", "adm*", "*min", "*", "user,admin", "a.c", "x y")
HEADERS = (
    *(("x-role", "admin"), ("x-role", "user"), ("X-Role", "administrator"), ("x-role", "Admin")),
    *(("x-team", "a.c"), ("x-team", "abc"), ("x-team", "x y"), ("x-role2", "admin")),
)
SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.1.1", "127.1.0.1")
SOURCE_BLOCKS = ("127.0.0.1", "127.0.0.2/31", "127.0.0.0/24", "127.0.0.9/16", "127.0.0.0/8",
                 "10.0.0.0/8", "0.0.0.0/0", "::/0")  # fmt: skip
REMOTES = ("10.1.2.3", "10.1.3.3", "192.0.2.7", "2001:db8::1", "2001:db8:1::1", "::ffff:10.1.2.3")
REMOTE_BLOCKS = ("10.1.2.3", "10.1.2.0/24", "10.1.2.0/23", "10.0.0.0/8", "192.0.2.0/29",
                 "2001:db8::/48", "2001:DB8:0:0::1", "::/0", "0.0.0.0/0")  # fmt: skip
DESTINATIONS = ("127.0.0.1",)
DESTINATION_BLOCKS = ("127.0.0.1", "127.0.0.2", "127.0.0.0/8", "10.0.0.0/8")
SERVER_NAMES = ("orders.shop", "Orders.shop", "ordersxshop", "api.orders.shop", None)
SERVER_NAME_VALUES = ("orders.shop", "ORDERS.shop", "*.shop", "*.orders.shop", "orders*", "*")
ISSUERS = ("https://issuer.test", "https://issuer.test/realm", "https://issuerxtest", "issuer")
SUBJECTS = ("alice", "bob", "al.ce", "realm/alice", "")
REQUEST_PRINCIPAL_VALUES = (
    *("*", "https://issuer.test/alice", "https://issuer.test/*", "https://issuer.test/al*"),
    *("https://issuer.test/realm/alice", "*alice", "*/alice", "*.test/alice", "*realm/alice"),
    *("issuer*", "issuer/*", "https*", "issuer/al.ce", "*al.ce"),
)
GROUPS = ("admins", "adminsx", "readers", "read")
GROUP_VALUES = ("admins", "admin*", "*ers", "read", "*", "a.mins")
CONDITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "identity": {
        "source.principal": PRINCIPAL_VALUES,
        "source.namespace": NAMESPACE_VALUES,
        "source.serviceAccount": SERVICE_ACCOUNT_VALUES,
        "source.trustDomain": TRUST_DOMAIN_VALUES,
    },
    "addresses": {
        "source.ip": SOURCE_BLOCKS,
        "remote.ip": REMOTE_BLOCKS,
        "destination.ip": DESTINATION_BLOCKS,
    },
    "sni": {"connection.sni": SERVER_NAME_VALUES},
    "http": {
        "request.headers[x-role]": HEADER_VALUES,
        "request.headers[X-Team]": HEADER_VALUES,
    },
    "tokens": {
        "request.auth.principal": REQUEST_PRINCIPAL_VALUES,
        "request.auth.audiences": GROUP_VALUES,
        "request.auth.presenter": GROUP_VALUES,
        "request.auth.claims[groups]": GROUP_VALUES,
        "request.auth.claims[scope]": GROUP_VALUES,
        "request.auth.claims[realm][roles]": GROUP_VALUES,
        "request.auth.claims[level]": ("1", "*"),
    },
}
NOT_FOR_CUSTOM = (
    *("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"),
    "request.auth.",
)
EXPIRIES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00", "2026-06-01T12:00:00+02:00")
TIMES = (None, 1767225599.5, 1767225600.0, 1767312000.0, 1780308000.0, 1700000000.0, 1800000000.0)
STAGES = (
    {"istio.io/dry-run": "true"},
    {"istio.io/dry-run": "false"},
    {"meshca.io/stage": "draft"},
    {"meshca.io/stage": "shadow"},
    {"meshca.io/stage": "enforce"},
    {"meshca.io/stage": "canary", "meshca.io/canary-namespaces": "shop-2,shop"},
    {"meshca.io/stage": "canary", "meshca.io/canary-namespaces": "shop-2"},
)
MODES = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")


def target(gateway: str) -> dict[str, str]:
    """Return a reference to `gateway`."""
    return {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}


def make_claims(random: Random) -> dict[str, Any]:
    """Return the claims of a valid token; some have odd shapes."""
    claims: dict[str, Any] = {
        "iss": random.choice(ISSUERS),
        "aud": random.choice((random.choice(GROUPS), random.sample(GROUPS, 2))),
    }
    if random.random() < 0.9:
        claims["sub"] = random.choice(SUBJECTS)
    if random.random() < 0.5:
        claims["azp"] = random.choice(GROUPS)
    if random.random() < 0.7:
        some = random.sample(GROUPS, random.choice((0, 1, 2)))
        claims["groups"] = random.choice((some, random.choice(GROUPS), ["admins", 1]))
    if random.random() < 0.5:
        claims["scope"] = random.choice(("admins read", "readers", "", "adminsx  read"))
    if random.random() < 0.5:
        roles: Any = random.choice((random.sample(GROUPS, 2), "admins", 5, {"admins": True}))
        claims["realm"] = random.choice(({"roles": roles}, roles))
    if random.random() < 0.3:
        claims["level"] = random.choice((1, "1", True))
    return claims
