"""Policies and requests made at random from a small world full of near misses.

Dots that a regular expression would read as "any", namespaces and trust domains of which one is a
prefix of another, a trust domain called `ns`, identities without a namespace, paths that differ
in a query or a letter.
"""

from random import Random
from typing import Any

from authz.request import Request
from authz.workload import Workload
from tests.authz.builders import connection, document, request
from tests.authz.naive import Asked

PRINCIPALS = (
    "example.org/ns/shop/sa/web",
    "example.org/ns/shop/sa/web.x",
    "example.org/ns/shop/sa/webax",
    "example.org/ns/shop-2/sa/web",
    "example.org/ns/prod-shop/sa/api",
    "example.org/ns/prod/sa/shop",
    "example.org/ns/shop",
    "example.org/team/shop/sa/web",
    "exampleaorg/ns/shop/sa/web",
    "example.org.evil/ns/shop/sa/web",
    "ns/shop/sa/web",
)
PORTS = (8080, 9090)
_PRINCIPAL_VALUES = (
    *PRINCIPALS,
    "*",
    "example.org/*",
    "example.org/ns/shop/*",
    "example.org/ns/shop*",
    "example.org/ns/shop/sa/web*",
    "ns/*",
    "*/sa/web",
    "*web",
    "*/ns/shop/sa/web",
    "*/shop/sa/web",
    "*.x",
    "*x",
)
_NAMESPACE_VALUES = ("shop", "shop-2", "prod-shop", "shop*", "sh*", "*-shop", "*shop", "*2", "*")
_METHOD_VALUES = ("GET", "POST", "P*", "*T", "PUT", "*")
_PATH_VALUES = (
    *("/", "/api", "/api/v1", "/api.v1", "/a+b", "/x;y", "/*", "/api*", "/api/*", "/api/v1*"),
    *("*.json", "*/v1", "*v1", "*", "*1.json", "*+b"),
)
METHODS = ("GET", "POST", "PUT", "DELETE")
PATHS = (
    *("/", "/api", "/api/", "/api/v1", "/api.v1", "/apixv1", "/a+b", "/x;y", "/x", "/Api/v1"),
    *("/api/v1?x=1", "/api?/v1", "/zzz?.json", "/api/v1.json", "/api/v1xjson", "/1.json?a=/b?c"),
    *("/api/v1?", "/aab", "/y/api/v1"),
)
LABELS = {"app": "orders", "version": "v1"}
WORKLOAD = Workload("shop", LABELS)


def _values(random: Random, choices: tuple[str, ...]) -> list[str]:
    return random.sample(choices, min(random.choice((1, 1, 1, 2, 3)), len(choices)))


def _field(random: Random, name: str, choices: tuple[str, ...]) -> dict[str, list[str]]:
    if random.random() < 0.25:
        name = f"not{name[0].upper()}{name[1:]}"
    return {name: _values(random, choices)}


def _source(random: Random) -> dict[str, list[str]]:
    source: dict[str, list[str]] = {}
    while not source:
        if random.random() < 0.7:
            source |= _field(random, "principals", _PRINCIPAL_VALUES)
        if random.random() < 0.4:
            source |= _field(random, "namespaces", _NAMESPACE_VALUES)
    return source


def _operation(random: Random, *, http: bool, ports: tuple[int, ...]) -> dict[str, list[str]]:
    operation: dict[str, list[str]] = {}
    while not operation:
        if http and random.random() < 0.5:
            operation |= _field(random, "methods", _METHOD_VALUES)
        if http and random.random() < 0.6:
            operation |= _field(random, "paths", _PATH_VALUES)
        if random.random() < 0.25:
            operation |= _field(random, "ports", tuple(str(port) for port in ports))
    return operation


def _rule(random: Random, *, ports: tuple[int, ...]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if random.random() < 0.8:
        rule["from"] = [{"source": _source(random)} for _ in range(random.choice((1, 1, 2)))]
    if random.random() < 0.7:
        rule["to"] = [
            {"operation": _operation(random, http=random.random() < 0.6, ports=ports)}
            for _ in range(random.choice((1, 1, 2)))
        ]
    return rule


def make_documents(random: Random, *, ports: tuple[int, ...] = PORTS) -> list[dict[str, Any]]:
    """Return up to four policies that may select the workload `shop` with `LABELS`."""
    documents = []
    for number in range(random.choice((0, 1, 1, 2, 2, 3, 4))):
        action = random.choice((None, "ALLOW", "DENY"))
        rules: Any = [_rule(random, ports=ports) for _ in range(random.choice((1, 1, 2, 3)))]
        if action is None and random.random() < 0.1:
            rules = None
        namespace = random.choice(("shop", "shop", "shop", "meshca", "shop-2"))
        selector = random.choice((None, None, {"app": "orders"}, {"app": "payments"}))
        name = f"policy-{number}"
        documents.append(document(name, namespace, action=action, rules=rules, selector=selector))
    return documents


def make_asked(random: Random, *, ports: tuple[int, ...] = PORTS) -> Asked:
    """Return an HTTP request or, one time in five, a TCP connection; some have no identity."""
    principal = None if random.random() < 0.1 else random.choice(PRINCIPALS)
    port = random.choice(ports)
    if random.random() < 0.2:
        return Asked(principal, port, None, None)
    return Asked(principal, port, random.choice(METHODS), random.choice(PATHS))


def to_request(asked: Asked) -> Request:
    """Return `asked`, sent to `WORKLOAD`, as the engine takes it."""
    if asked.path is None:
        return connection(asked.principal, destination=WORKLOAD, port=asked.port)
    return request(
        asked.principal,
        destination=WORKLOAD,
        port=asked.port,
        method=asked.method,
        path=asked.path,
    )
