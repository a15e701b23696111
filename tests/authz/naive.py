"""The policy language once more, slow and plain: what `authz` is compared with.

It works on the documents as written, shares no code with `authz`, and follows
docs/authorization.md sentence by sentence. How single values are compared is in `naive_values`.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.authz import naive_values
from tests.authz.naive_values import FIELDS_OF_CONDITIONS, IDENTITY, NEEDS_HTTP, TOKEN


@dataclass(frozen=True)
class Asked:
    """One request; without `method` and `path` it is a TCP connection.

    `headers` are lines as they are sent; `claims` those of a valid token. Addresses, server name
    and `now` (seconds since the epoch) are None where they are not known. `unknown` are fields of
    the language (`ports`, `paths`, ...) that whoever asks has not said.
    """

    principal: str | None
    port: int
    method: str | None
    path: str | None
    host: str = "orders.shop"
    headers: tuple[tuple[str, str], ...] = ()
    claims: dict[str, Any] | None = None
    source_ip: str | None = None
    remote_ip: str | None = None
    destination_ip: str | None = None
    sni: str | None = None
    now: float | None = None
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True)
class World:
    """What a request is decided in: the destination, our names, what providers have answered."""

    namespace: str = "shop"
    labels: dict[str, str] = field(default_factory=dict)
    default: str = "deny"
    trust_domains: tuple[str, ...] = ("example.org",)
    root_namespace: str = "meshca"
    answers: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether a request passes, whether it would if all on trial were in force, what it notes."""

    allowed: bool
    shadow: bool
    audited: frozenset[str]


def judge(documents: list[dict[str, Any]], asked: Asked, world: World) -> Verdict:
    """Return what `documents` say of `asked`."""
    attached = [d for d in documents if _is_policy(d) and _is_attached(d, world)]
    enforced = [d for d in attached if _is_enforced(d, world)]
    proposed = [d for d in attached if _stage(d) != "draft" and not _needs_approval(d)]
    strict = _mode(documents, asked, world) == "STRICT"
    audited = {
        f"{_name(d)}[{i}]"
        for d in enforced
        if _action(d) == "AUDIT"
        for i, rule in enumerate(_rules(d, asked))
        if _rule_holds(rule, d, asked, world)
    }
    return Verdict(
        _passes(enforced, asked, world, strict=strict),
        _passes(proposed, asked, world, strict=strict),
        frozenset(audited),
    )


def allows(
    documents: list[dict[str, Any]],
    asked: Asked,
    *,
    namespace: str,
    labels: dict[str, str],
    default: str,
) -> bool:
    """Return whether `documents` let `asked` reach the workload."""
    return judge(documents, asked, World(namespace, labels, default)).allowed


def _passes(policies: list[dict[str, Any]], asked: Asked, world: World, *, strict: bool) -> bool:
    path = None if "paths" in asked.unknown else asked.path
    if path is not None and (path[:1] != "/" or "#" in path.split("?")[0]):
        return False
    if strict and asked.principal is None:
        return False
    for policy in policies:
        for rule in _rules(policy, asked):
            if not _rule_holds(rule, policy, asked, world):
                continue
            if _action(policy) == "DENY":
                return False
            if _action(policy) == "CUSTOM":
                name = policy["spec"]["provider"]["name"]
                answer = None if asked.path is None else world.answers.get(name)
                if answer is not True:
                    return False
    allow = [policy for policy in policies if _action(policy) == "ALLOW"]
    if not allow:
        return world.default == "allow"
    return any(_rule_holds(rule, p, asked, world) for p in allow for rule in _rules(p, asked))


def _is_policy(document: dict[str, Any]) -> bool:
    return bool(document["kind"] == "AuthorizationPolicy")


def _name(document: dict[str, Any]) -> str:
    return f"{document['metadata']['namespace']}/{document['metadata']['name']}"


def _action(document: dict[str, Any]) -> str:
    return str(document["spec"].get("action", "ALLOW"))


def _annotation(document: dict[str, Any], name: str) -> str | None:
    text = document["metadata"].get("annotations", {}).get(name)
    return None if text is None else str(text)


def _stage(document: dict[str, Any]) -> str:
    if _annotation(document, "istio.io/dry-run") == "true":
        return "shadow"
    return _annotation(document, "meshca.io/stage") or "enforce"


def _needs_approval(document: dict[str, Any]) -> bool:
    return _annotation(document, "meshca.io/break-glass") is not None


def _is_enforced(document: dict[str, Any], world: World) -> bool:
    if _needs_approval(document):
        return False
    if _stage(document) == "canary":
        listed = _annotation(document, "meshca.io/canary-namespaces") or ""
        return world.namespace in listed.replace(" ", "").split(",")
    return _stage(document) == "enforce"


def _is_attached(document: dict[str, Any], world: World) -> bool:
    own = document["metadata"]["namespace"]
    if own not in (world.namespace, world.root_namespace):
        return False
    spec = document["spec"]
    targets = spec.get("targetRefs", [spec["targetRef"]] if "targetRef" in spec else [])
    if targets:
        gateway = world.labels.get("gateway.networking.k8s.io/gateway-name")
        return own == world.namespace and gateway in [target["name"] for target in targets]
    return _has_labels(document, world)


def _has_labels(document: dict[str, Any], world: World) -> bool:
    wanted = document["spec"].get("selector", {}).get("matchLabels", {})
    return all(world.labels.get(key) == value for key, value in wanted.items())


def _mode(documents: list[dict[str, Any]], asked: Asked, world: World) -> str:
    scopes: list[list[dict[str, Any]]] = [[], [], []]
    for document in documents:
        if document["kind"] != "PeerAuthentication":
            continue
        own, selects = document["metadata"]["namespace"], "selector" in document["spec"]
        if own == world.root_namespace and not selects:
            scopes[0].append(document)
        elif own == world.namespace and own != world.root_namespace and not selects:
            scopes[1].append(document)
        elif (
            own == world.namespace and own != world.root_namespace and _has_labels(document, world)
        ):
            scopes[2].append(document)
    mode = "PERMISSIVE"
    for number, scope in enumerate(scopes):
        if not scope:
            continue
        spec = sorted(scope, key=lambda d: str(d["metadata"]["creationTimestamp"]))[0]["spec"]
        said = spec.get("mtls", {}).get("mode", "UNSET")
        mode = mode if said == "UNSET" else said
        ports = spec.get("portLevelMtls", {})
        port = ports.get(str(asked.port), {}).get("mode", "UNSET")
        if "ports" in asked.unknown:
            said = [mode if p["mode"] == "UNSET" else p["mode"] for p in ports.values()]
            port = "STRICT" if "STRICT" in said else "UNSET"
        if number == 2 and port != "UNSET":
            mode = port
    return mode


def _rules(policy: dict[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """Return the rules that could hold now, on this protocol."""
    rules: list[dict[str, Any]] = policy["spec"].get("rules", [])
    allows = _action(policy) == "ALLOW"
    ends = naive_values.seconds(_annotation(policy, "meshca.io/expires"))
    now = None if asked.path is None else asked.now
    if ends is not None and (allows if now is None else now >= ends):
        return []
    if allows and asked.path is None:
        return [rule for rule in rules if not _needs_http(rule)]
    return rules


def _needs_http(rule: dict[str, Any]) -> bool:
    parts = [entry["source"] for entry in rule.get("from", [])]
    parts += [entry["operation"] for entry in rule.get("to", [])]
    names = [_positive(name) for part in parts for name in part]
    names += [_condition_field(entry["key"]) for entry in rule.get("when", [])]
    return any(name in NEEDS_HTTP for name in names)


def _positive(name: str) -> str:
    return name[3].lower() + name[4:] if name.startswith("not") else name


def _condition_field(key: str) -> str:
    return FIELDS_OF_CONDITIONS[key.split("[")[0]]


def _rule_holds(rule: dict[str, Any], policy: dict[str, Any], asked: Asked, world: World) -> bool:
    sources = [entry["source"] for entry in rule.get("from", [])]
    conditions = rule.get("when", [])
    in_when = any(c["key"] == "source.trustDomain" and "values" in c for c in conditions)
    in_all = bool(sources) and all("trustDomains" in source for source in sources)
    if sources and not any(
        all(
            _field_holds(
                name, values, (), policy, asked, world, wide=in_when or "trustDomains" in s
            )
            for name, values in s.items()
        )
        for s in sources
    ):
        return False
    operations = [entry["operation"] for entry in rule.get("to", [])]
    if operations and not any(
        all(_field_holds(name, v, (), policy, asked, world, wide=False) for name, v in o.items())
        for o in operations
    ):
        return False
    return all(
        _condition_holds(condition, policy, asked, world, wide=in_when or in_all)
        for condition in conditions
    )


def _condition_holds(
    condition: dict[str, Any], policy: dict[str, Any], asked: Asked, world: World, *, wide: bool
) -> bool:
    name = _condition_field(condition["key"])
    key = tuple(condition["key"].replace("]", "").split("[")[1:])
    negative = f"not{name[0].upper()}{name[1:]}"
    for side, field_name in (("values", name), ("notValues", negative)):
        if side in condition and not _field_holds(
            field_name, condition[side], key, policy, asked, world, wide=wide
        ):
            return False
    return True


def _field_holds(
    name: str,
    values: list[str],
    key: tuple[str, ...],
    policy: dict[str, Any],
    asked: Asked,
    world: World,
    *,
    wide: bool,
) -> bool:
    negative = name.startswith("not")
    plain = _positive(name)
    allows = _action(policy) == "ALLOW"
    texts = naive_values.texts(plain, key, asked, world, wide=wide)
    if texts is None:
        return not allows and (negative or plain not in IDENTITY)
    if not texts:
        return negative and not (allows and plain in TOKEN)
    own = policy["metadata"]["namespace"]
    found = any(naive_values.matches(plain, v, t, own, world) for v in values for t in texts)
    return found != negative
