"""Policy sets of the whole language and requests, made at random from a small world."""

import copy
from random import Random
from typing import Any

from authz.load import load_policies
from authz.policy import Default, PolicySet
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.authz.builders import ROOT_NAMESPACE, TRUST_DOMAIN, document, to_yaml

NOW = 1_800_000_000.0
SOON = "2027-01-15T09:00:00Z"
LATER = "2030-01-01T00:00:00Z"
PRINCIPALS = (
    *("example.org/ns/shop/sa/web", "example.org/ns/shop/sa/webx", "example.org/ns/pay/sa/api"),
    *("old.example/ns/shop/sa/web", "other.org/ns/shop/sa/web", "example.org/ns/shop/sa/web/x"),
    *("example.org/ns/shop", "example.org/team/sa/web", "example.org/ns/sa/sa/web"),
)
PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/a/x/c", "/b.json", "/a/b.json", "/a//c", "/x/y/z")
HOSTS = ("a.example", "b.example", "b.a.example", "a.example:8080", "example")
TEXTS = ("red", "blue", "redblue", "", "bluered", "green")
ADDRESSES = ("10.0.0.1", "10.1.2.3", "10.1.0.0", "192.168.0.9", "2001:db8::1", "fe80::1", "8.8.8.8")
PORTS = (80, 8080, 9090)
CLAIMS = ("group", "scope")
WORKLOADS = (
    *(Workload("shop", {"app": "a"}), Workload("shop", {"app": "b", "tier": "web"})),
    *(Workload("shop"), Workload("pay", {"tier": "web"}), Workload("elsewhere", {"app": "a"})),
)
_VALUES: dict[str, tuple[str, ...]] = {
    "principals": (
        *(*PRINCIPALS[:5], "*", "example.org/*", "example.org/ns/shop/*", "example.org/ns/s*"),
        *("*/sa/web", "*web", "*/ns/shop/sa/web", "*x", "*org/ns/shop/sa/web", "example.org/ns/*"),
    ),
    "namespaces": ("shop", "pay", "s*", "*p", "*"),
    "serviceAccounts": ("shop/web", "pay/api", "web"),
    "trustDomains": ("example.org", "other.org", "*org", "old*"),
    "ipBlocks": ("10.0.0.0/8", "10.1.0.0/16", "10.0.0.1", "2001:db8::/32", "0.0.0.0/0"),
    "remoteIpBlocks": ("10.0.0.0/8", "192.168.0.0/16"),
    "requestPrincipals": ("iss/red", "iss/*", "*/blue", "other/red", "*"),
    "hosts": ("a.example", "*.example", "a.example:*", "*"),
    "ports": ("80", "8080"),
    "methods": ("GET", "POST", "P*", "*"),
    "paths": ("/a", "/a/*", "*.json", "/", "/a/{*}/c", "/{**}/c", "/a/{**}", "*"),
}
_SOURCE = ("principals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks",
           "remoteIpBlocks", "requestPrincipals")  # fmt: skip
_OPERATION = ("hosts", "ports", "methods", "paths", "paths", "methods")
_CONDITIONS = {
    "request.headers[x-colour]": ("red", "blue*", "*red", "*"),
    "request.headers[x-other]": ("red",),
    "request.auth.claims[group]": ("red", "blue", "green*"),
    "request.auth.claims[scope]": ("red", "blue"),
    "request.auth.claims[sub]": ("red", "b*"),
    "request.auth.claims[nested][name]": ("red",),
    "request.auth.claims[nested]": ("red",),
    "request.auth.audiences": ("red", "blue"),
    "request.auth.presenter": ("red",),
    "connection.sni": ("a.example", "*.example"),
    "destination.ip": ("10.0.0.0/8",),
}


def some(random: Random, choices: tuple[str, ...]) -> list[str]:
    """Return one to three of `choices`."""
    return random.sample(choices, min(random.choice((1, 1, 2, 3)), len(choices)))


def _part(random: Random, names: tuple[str, ...], *, provider: bool = False) -> dict[str, Any]:
    part: dict[str, Any] = {}
    while not part:
        for name in random.sample(names, random.choice((1, 1, 2))):
            if provider and name in (*_SOURCE[:4], "requestPrincipals"):
                continue
            key = name if random.random() < 0.7 else f"not{name[0].upper()}{name[1:]}"
            part[key] = some(random, _VALUES[name])
    named = {key.lower().removeprefix("not") for key in part}
    if "serviceaccounts" in named and named & {"principals", "namespaces"}:
        return _part(random, names, provider=provider)
    return part


def _rule(random: Random, *, provider: bool = False) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if random.random() < 0.7:
        rule["from"] = [
            {"source": _part(random, _SOURCE, provider=provider)}
            for _ in range(random.choice((1, 1, 2)))
        ]
    if random.random() < 0.7:
        rule["to"] = [
            {"operation": _part(random, _OPERATION)} for _ in range(random.choice((1, 1, 2)))
        ]
    if random.random() < 0.4:
        keys = [k for k in _CONDITIONS if not (provider and k.startswith("request.auth"))]
        key = random.choice(keys)
        kind = random.choice(("values", "values", "notValues"))
        rule["when"] = [{"key": key, kind: some(random, _CONDITIONS[key])}]
    return rule


def _policy(random: Random, number: int) -> dict[str, Any]:
    action = random.choice((None, "ALLOW", "ALLOW", "DENY", "DENY", "CUSTOM", "AUDIT"))
    custom = action == "CUSTOM"
    made = document(
        f"policy-{number}",
        random.choice(("shop", "shop", "shop", "pay", ROOT_NAMESPACE)),
        action=action,
        rules=[_rule(random, provider=custom) for _ in range(random.choice((1, 1, 2)))],
        selector=random.choice((None, None, {"app": "a"}, {"tier": "web"})),
    )
    if custom:
        made["spec"]["provider"] = {"name": random.choice(("one", "two"))}
    if random.random() < 0.15:
        made["metadata"]["annotations"] = {"meshca.io/expires": random.choice((SOON, LATER))}
    if random.random() < 0.1:
        stage = random.choice(("draft", "shadow"))
        made["metadata"]["annotations"] = {"meshca.io/stage": stage}
    return made


def _peer_authentication(random: Random) -> dict[str, Any]:
    spec: dict[str, Any] = {"mtls": {"mode": random.choice(("STRICT", "PERMISSIVE", "UNSET"))}}
    if random.random() < 0.5:
        spec["selector"] = {"matchLabels": {"app": "a"}}
        spec["portLevelMtls"] = {"8080": {"mode": random.choice(("STRICT", "PERMISSIVE"))}}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "peers", "namespace": "shop"},
        "spec": spec,
    }


def make_documents(random: Random) -> list[dict[str, Any]]:
    """Return up to five policies and perhaps a PeerAuthentication."""
    documents = [_policy(random, number) for number in range(random.choice((0, 1, 2, 2, 3, 4, 5)))]
    if random.random() < 0.3:
        documents.append(_peer_authentication(random))
    return documents


def changed(random: Random, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `documents` with one or two of them changed, gone or new."""
    result = copy.deepcopy(documents)
    for _ in range(random.choice((1, 1, 2))):
        match random.choice(("drop", "add", "replace", "rule")):
            case "drop" if result:
                result.pop(random.randrange(len(result)))
            case "replace" if result:
                at = random.randrange(len(result))
                name = result[at]["metadata"]["name"]
                result[at] = _policy(random, 0)
                result[at]["metadata"]["name"] = name
            case "rule" if result and "rules" in result[-1]["spec"]:
                custom = result[-1]["spec"].get("action") == "CUSTOM"
                result[-1]["spec"]["rules"].append(_rule(random, provider=custom))
            case _:
                result.append(_policy(random, 100 + random.randrange(1000)))
    return result


def load(documents: list[dict[str, Any]], default: Default = "deny") -> PolicySet:
    """Return the set of `documents`."""
    return load_policies(
        [("policy.yaml", to_yaml(*documents))],
        trust_domain=TRUST_DOMAIN,
        root_namespace=ROOT_NAMESPACE,
        default=default,
        aliases=("old.example",),
    )


def make_request(random: Random) -> tuple[Request, dict[str, bool]]:
    """Return a complete request, as a proxy sees it, and the providers' answers."""
    source = None
    if random.random() < 0.85:
        source = SpiffeId.parse(f"spiffe://{random.choice(PRINCIPALS)}")
    made = Request(
        source=source,
        destination=random.choice(WORKLOADS),
        port=random.choice(PORTS),
        http=_http(random) if random.random() < 0.8 else None,
        source_ip=random.choice(ADDRESSES),
        remote_ip=random.choice(ADDRESSES),
        destination_ip=random.choice(ADDRESSES),
        sni=None if source is None else random.choice((None, *HOSTS[:3])),
        time=random.choice((NOW, NOW + 1, 1_900_000_000.0)),
    )
    return made, {name: random.random() < 0.5 for name in ("one", "two")}


def _http(random: Random) -> Http:
    headers = {
        name: random.choice(TEXTS) for name in ("x-colour", "x-other") if random.random() < 0.6
    }
    return Http(
        method=random.choice(("GET", "POST", "PUT", "DELETE")),
        path=random.choice(PATHS),
        host=random.choice(HOSTS),
        headers=headers,
        claims=_claims(random) if random.random() < 0.6 else None,
    )


def _claims(random: Random) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    if random.random() < 0.8:
        claims |= {"iss": random.choice(("iss", "other", "third"))}
    if random.random() < 0.8:
        claims |= {"sub": random.choice(("red", "blue", "b"))}
    for name in ("group", "scope", "aud", "azp"):
        texts = random.sample([text for text in TEXTS if text], random.choice((1, 1, 2)))
        match random.choice(("text", "list", "none")):
            case "text":
                claims[name] = texts[0]
            case "list":
                claims[name] = texts
    if random.random() < 0.4:
        claims["nested"] = random.choice(("red", {"name": "red"}, {"name": "blue"}, {}))
    return claims
