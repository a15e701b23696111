"""Policies and requests made at random from a small world full of near misses.

`tests.authz.generated_values` is the world. `make_documents` writes the core of the language
unless it is given more of it; what `language` names is then used as well:

    identity    serviceAccounts, trustDomains and the conditions on the peer
    addresses   ipBlocks, remoteIpBlocks and the conditions on addresses
    sni         connection.sni
    http        hosts, request.headers, path templates
    tokens      requestPrincipals, request.auth.*
    custom      CUSTOM policies of the providers in PROVIDERS
    audit       AUDIT policies
    stages      draft, shadow, dry-run, canary, break-glass
    expires     policies that end at one of TIMES
    targets     targetRefs
    modes       PeerAuthentication

UNKNOWN is for `make_asked` alone: then some of what a proxy always knows has not been said.
"""

from random import Random
from typing import Any, Final

from authz.request import Http, Request
from meshca.spiffe_id import SpiffeId
from tests.authz import generated_values as world
from tests.authz.builders import document
from tests.authz.generated_values import LABELS, METHODS, PATHS, PORTS, PRINCIPALS, WORKLOAD
from tests.authz.naive import Asked

CORE: Final[frozenset[str]] = frozenset()
WHOLE: Final = frozenset(
    {
        *("identity", "addresses", "sni", "http", "tokens", "custom", "audit", "stages"),
        *("expires", "targets", "modes"),
    }
)
UNKNOWN: Final = frozenset({"unknown"})
__all__ = ["LABELS", "METHODS", "PATHS", "PORTS", "PRINCIPALS", "WORKLOAD"]

_NOT_FOR_CUSTOM = {
    *("principals", "namespaces", "serviceAccounts", "trustDomains", "requestPrincipals"),
}

_OTHER_SOURCE_FIELDS = (
    (0.25, "identity", "trustDomains", world.TRUST_DOMAIN_VALUES),
    (0.2, "addresses", "ipBlocks", world.SOURCE_BLOCKS),
    (0.2, "addresses", "remoteIpBlocks", world.REMOTE_BLOCKS),
    (0.3, "tokens", "requestPrincipals", world.REQUEST_PRINCIPAL_VALUES),
)


def _sample(random: Random, choices: tuple[str, ...]) -> list[str]:
    return random.sample(choices, min(random.choice((1, 1, 1, 2, 3)), len(choices)))


def _field(random: Random, name: str, choices: tuple[str, ...]) -> dict[str, list[str]]:
    if random.random() < 0.25:
        name = f"not{name[0].upper()}{name[1:]}"
    return {name: _sample(random, choices)}


class _Writer:
    """Writes documents with one source of chance, one part of the language and two ports."""

    def __init__(self, random: Random, language: frozenset[str], ports: tuple[int, ...]) -> None:
        self.random = random
        self.language = language
        self.ports = tuple(str(port) for port in ports)

    def chance(self, of: float, part: str = "") -> bool:
        """Return whether it happens, with chance `of`, if `part` of the language is used."""
        return (not part or part in self.language) and self.random.random() < of

    def source(self, *, custom: bool) -> dict[str, list[str]]:
        choices = (*self._peer_fields(), *_OTHER_SOURCE_FIELDS)
        for _ in range(20):
            source: dict[str, list[str]] = {}
            for chance, part, name, values in choices:
                if self.chance(chance, part) and not (custom and name in _NOT_FOR_CUSTOM):
                    source |= _field(self.random, name, values)
            if source:
                return source
        return {"ipBlocks": ["127.0.0.0/8"]}

    def _peer_fields(self) -> tuple[tuple[float, str, str, tuple[str, ...]], ...]:
        if self.chance(0.25, "identity"):
            return ((1.0, "", "serviceAccounts", world.SERVICE_ACCOUNT_VALUES),)
        return (
            (0.7, "", "principals", world.PRINCIPAL_VALUES),
            (0.4, "", "namespaces", world.NAMESPACE_VALUES),
        )

    def operation(self, *, http: bool) -> dict[str, list[str]]:
        operation: dict[str, list[str]] = {}
        paths: tuple[str, ...] = world.PATH_VALUES
        paths += world.TEMPLATES if "http" in self.language else ()
        while not operation:
            if http and self.chance(0.5):
                operation |= _field(self.random, "methods", world.METHOD_VALUES)
            if http and self.chance(0.6):
                operation |= _field(self.random, "paths", paths)
            if http and self.chance(0.3, "http"):
                operation |= _field(self.random, "hosts", world.HOST_VALUES)
            if self.chance(0.25):
                operation |= _field(self.random, "ports", self.ports)
        return operation

    def conditions(self, *, custom: bool, on_namespace: bool) -> list[dict[str, Any]]:
        keys = {"destination.port": self.ports}
        for part, values in world.CONDITIONS.items():
            if part in self.language:
                keys |= values
        names = [
            key
            for key in keys
            if not (custom and key.startswith(world.NOT_FOR_CUSTOM))
            and (on_namespace or key not in ("source.namespace", "source.serviceAccount"))
        ]
        conditions = []
        for key in self.random.choices(names, k=self.random.choice((1, 1, 2, 3))):
            condition: dict[str, Any] = {"key": key}
            sides = self.random.choice((("values",), ("values",), ("notValues",),
                                        ("values", "notValues")))  # fmt: skip
            for side in sides:
                condition[side] = _sample(self.random, keys[key])
            conditions.append(condition)
        return conditions

    def rule(self, *, custom: bool) -> dict[str, Any]:
        rule: dict[str, Any] = {}
        sources: list[dict[str, list[str]]] = []
        if self.chance(0.8) and (not custom or "addresses" in self.language):
            count = self.random.choice((1, 1, 2))
            sources = [self.source(custom=custom) for _ in range(count)]
            rule["from"] = [{"source": source} for source in sources]
        if self.chance(0.7):
            count = self.random.choice((1, 1, 2))
            rule["to"] = [
                {"operation": self.operation(http=self.chance(0.6))} for _ in range(count)
            ]
        if self.language and self.chance(0.4):
            named = ["trustDomains" in source for source in sources]
            on_namespace = all(named) or not any(named)
            rule["when"] = self.conditions(custom=custom, on_namespace=on_namespace)
        return rule

    def policy(self, name: str) -> dict[str, Any]:
        actions: list[str | None] = [None, "ALLOW", "DENY"] * 2
        actions += [action for action in ("CUSTOM", "AUDIT") if action.lower() in self.language]
        action = self.random.choice(actions)
        rules: Any = [
            self.rule(custom=action == "CUSTOM") for _ in range(self.random.choice((1, 1, 2, 3)))
        ]
        if action in (None, "AUDIT") and self.chance(0.1):
            rules = None
        policy = document(
            name,
            self.random.choice(("shop", "shop", "shop", "meshca", "shop-2")),
            action=action,
            rules=rules,
            selector=self.random.choice((None, None, {"app": "orders"}, {"app": "payments"})),
        )
        if action == "CUSTOM":
            policy["spec"]["provider"] = {"name": self.random.choice(world.PROVIDERS)}
        if self.chance(0.1, "targets"):
            policy["spec"].pop("selector", None)
            policy["spec"]["targetRefs"] = [world.target(self.random.choice(world.GATEWAYS))]
        annotations = self.annotations(action)
        if annotations:
            policy["metadata"]["annotations"] = annotations
        return policy

    def annotations(self, action: str | None) -> dict[str, str]:
        annotations: dict[str, str] = {}
        if self.chance(0.3, "stages"):
            annotations |= self.random.choice(world.STAGES)
        if self.chance(0.15, "expires"):
            annotations["meshca.io/expires"] = self.random.choice(world.EXPIRIES)
        if action in (None, "ALLOW") and self.chance(0.05, "stages"):
            annotations["meshca.io/break-glass"] = "the payments are down"
            annotations["meshca.io/expires"] = world.EXPIRIES[-1]
        return annotations

    def modes(self) -> list[dict[str, Any]]:
        """Return PeerAuthentications of different scopes and ages."""
        scopes = [("meshca", None), ("shop", None), ("shop", {"app": "orders"}),
                  ("shop", {"version": "v1"}), ("shop-2", None)]  # fmt: skip
        found = []
        for number, (namespace, selector) in enumerate(scopes):
            if not self.chance(0.3, "modes"):
                continue
            spec: dict[str, Any] = {}
            if self.chance(0.8):
                spec["mtls"] = {"mode": self.random.choice(world.MODES)}
            if selector is not None:
                spec["selector"] = {"matchLabels": selector}
            if selector is not None and self.chance(0.5):
                port = self.random.choice(self.ports)
                spec["portLevelMtls"] = {port: {"mode": self.random.choice(world.MODES)}}
            age = self.random.randrange(10, 60)
            found.append(
                {
                    "apiVersion": "security.istio.io/v1",
                    "kind": "PeerAuthentication",
                    "metadata": {
                        "name": f"mode-{number}",
                        "namespace": namespace,
                        "creationTimestamp": f"2026-01-0{number + 1}T00:00:{age}Z",
                    },
                    "spec": spec,
                }
            )
        self.random.shuffle(found)
        return found


def make_documents(
    random: Random, *, ports: tuple[int, ...] = PORTS, language: frozenset[str] = CORE
) -> list[dict[str, Any]]:
    """Return up to four policies that may select the workload `shop` with `LABELS`, and modes."""
    writer = _Writer(random, language, ports)
    count = random.choice((0, 1, 1, 2, 2, 3, 4))
    return [*(writer.policy(f"policy-{number}") for number in range(count)), *writer.modes()]


def make_asked(
    random: Random, *, ports: tuple[int, ...] = PORTS, language: frozenset[str] = CORE
) -> Asked:
    """Return an HTTP request or, one time in five, a TCP connection; some have no identity.

    Source addresses are loopback addresses, so that a test can really connect from them.
    """
    principal = None if random.random() < 0.1 else random.choice(PRINCIPALS)
    port = random.choice(ports)
    is_http = random.random() >= 0.2
    said: dict[str, Any] = {}
    if "addresses" in language:
        said["source_ip"] = random.choice(world.SOURCES)
        said["remote_ip"] = random.choice(world.REMOTES)
        said["destination_ip"] = random.choice(world.DESTINATIONS)
    if "sni" in language:
        said["sni"] = random.choice(world.SERVER_NAMES)
    if "expires" in language:
        said["now"] = random.choice(world.TIMES)
    if "unknown" in language:
        fields = ("ports", "methods", "paths", "hosts", "headers")
        said["unknown"] = frozenset(name for name in fields if random.random() < 0.15)
    if not is_http:
        return Asked(principal, port, None, None, **said)
    if "http" in language:
        said["host"] = random.choice(world.HOSTS)
        said["headers"] = tuple(random.sample(world.HEADERS, random.choice((0, 1, 2, 3))))
    if "tokens" in language and random.random() < 0.7:
        said["claims"] = world.make_claims(random)
    paths = PATHS + (world.TEMPLATE_PATHS if "http" in language else ())
    return Asked(principal, port, random.choice(METHODS), random.choice(paths), **said)


def to_request(asked: Asked) -> Request:
    """Return `asked`, sent to `WORKLOAD`, as the engine takes it."""
    source = None if asked.principal is None else SpiffeId.parse(f"spiffe://{asked.principal}")
    http = None

    def said(name: str, value: Any) -> Any:
        return None if name in asked.unknown else value

    if asked.path is not None:
        headers: dict[str, str] = {}
        for name, value in asked.headers:
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        http = Http(
            said("methods", asked.method),
            said("paths", asked.path),
            said("hosts", asked.host),
            said("headers", headers),
            asked.claims,
        )
    return Request(
        source,
        WORKLOAD,
        said("ports", asked.port),
        http,
        source_ip=asked.source_ip,
        remote_ip=asked.remote_ip,
        destination_ip=asked.destination_ip,
        sni=asked.sni,
        time=asked.now,
    )
