"""The policy language once more, slow and plain: what `authz` is compared with.

It works on the documents as written, shares no code with `authz`, and follows
docs/authorization.md sentence by sentence.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request; without `method` and `path` it is a TCP connection."""

    principal: str | None
    port: int
    method: str | None
    path: str | None


IDENTITY_FIELDS = ("principals", "namespaces")


def allows(
    documents: list[dict[str, Any]],
    asked: Asked,
    *,
    namespace: str,
    labels: dict[str, str],
    default: str,
    trust_domain: str = "example.org",
    root_namespace: str = "meshca",
) -> bool:
    """Return whether `documents` let `asked` reach the workload."""
    attached = [
        document["spec"]
        for document in documents
        if document["metadata"]["namespace"] in (namespace, root_namespace)
        and _selects(document["spec"], labels)
    ]
    denies = [spec for spec in attached if spec.get("action") == "DENY"]
    allow = [spec for spec in attached if spec.get("action", "ALLOW") == "ALLOW"]
    if any(_rule_holds(r, asked, trust_domain, deny=True) for s in denies for r in s["rules"]):
        return False
    if not allow:
        return default == "allow"
    rules = [rule for spec in allow for rule in spec.get("rules", [])]
    if asked.path is None:
        rules = [rule for rule in rules if not _needs_http(rule)]
    return any(_rule_holds(rule, asked, trust_domain, deny=False) for rule in rules)


def _selects(spec: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = spec.get("selector", {}).get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def _needs_http(rule: dict[str, Any]) -> bool:
    operations = [entry["operation"] for entry in rule.get("to", [])]
    return any(name.lower().endswith(("methods", "paths")) for o in operations for name in o)


def _rule_holds(rule: dict[str, Any], asked: Asked, trust_domain: str, *, deny: bool) -> bool:
    sources = [entry["source"] for entry in rule.get("from", [{"source": {}}])]
    operations = [entry["operation"] for entry in rule.get("to", [{"operation": {}}])]
    return any(
        all(_field_holds(name, v, asked, trust_domain, deny=deny) for name, v in source.items())
        for source in sources
    ) and any(
        all(_field_holds(name, v, asked, trust_domain, deny=deny) for name, v in operation.items())
        for operation in operations
    )


def _field_holds(
    name: str, values: list[str], asked: Asked, trust_domain: str, *, deny: bool
) -> bool:
    negative = name.startswith("not")
    plain = name[3].lower() + name[4:] if negative else name
    text = _value(plain, asked, trust_domain)
    if text is None:
        return deny and (negative or plain not in IDENTITY_FIELDS)
    found = any(_matches(value, text) for value in values)
    return found != negative


def _value(name: str, asked: Asked, trust_domain: str) -> str | None:
    if name == "principals":
        return asked.principal
    if name == "namespaces":
        parts = (asked.principal or "").split("/")
        named = len(parts) > 2 and parts[0] == trust_domain and parts[1] == "ns"
        return parts[2] if named else None
    if name == "ports":
        return str(asked.port)
    if name == "methods":
        return asked.method
    return None if asked.path is None else asked.path.split("?")[0]


def _matches(value: str, text: str) -> bool:
    if value == "*":
        return text != ""
    if value[0] == "*":
        return text[len(text) - len(value) + 1 :] == value[1:] and len(text) >= len(value) - 1
    if value[-1] == "*":
        return text[: len(value) - 1] == value[:-1]
    return text == value
