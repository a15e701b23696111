"""What a request has for each field, and how one value is compared with it: slow and plain.

The other half of `tests.authz.naive`; shares no code with `authz` either.
"""

import socket
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.authz.naive import Asked, World

IDENTITY = ("principals", "namespaces", "serviceAccounts", "trustDomains")
TOKEN = ("requestPrincipals", "audiences", "presenter", "claims")
NEEDS_HTTP = ("hosts", "methods", "paths", "headers", *TOKEN)
FIELDS_OF_CONDITIONS = {
    "request.headers": "headers",
    "source.ip": "ipBlocks",
    "remote.ip": "remoteIpBlocks",
    "source.namespace": "namespaces",
    "source.trustDomain": "trustDomains",
    "source.serviceAccount": "serviceAccounts",
    "source.principal": "principals",
    "request.auth.principal": "requestPrincipals",
    "request.auth.audiences": "audiences",
    "request.auth.presenter": "presenter",
    "request.auth.claims": "claims",
    "destination.ip": "destinationIps",
    "destination.port": "ports",
    "connection.sni": "serverNames",
}
ADDRESSES = ("ipBlocks", "remoteIpBlocks", "destinationIps")


def seconds(text: str | None) -> float | None:
    """Return the time that `text` names, in seconds since the epoch."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def texts(
    name: str, key: tuple[str, ...], asked: "Asked", world: "World", *, wide: bool
) -> list[Any] | None:
    """Return what `asked` has for field `name`: None if unknown, an empty list for nothing."""
    if name in IDENTITY:
        one = _identity(name, asked.principal, world, wide=wide)
        return None if one is None else [one]
    if name in asked.unknown or (name in NEEDS_HTTP and asked.path is None):
        return None
    if name in TOKEN:
        return _token(name, key, asked.claims or {})
    if name == "headers":
        lines = [value for line, value in asked.headers if line.lower() == key[0].lower()]
        return [",".join(lines)] if lines else []
    known = {
        "ports": str(asked.port),
        "methods": asked.method,
        "paths": None if asked.path is None else asked.path.split("?")[0],
        "hosts": _folded_host(asked.host),
        "ipBlocks": asked.source_ip,
        "remoteIpBlocks": asked.remote_ip,
        "destinationIps": asked.destination_ip,
        "serverNames": None if asked.sni is None else asked.sni.lower(),
    }
    return None if known[name] is None else [known[name]]


def _identity(name: str, principal: str | None, world: "World", *, wide: bool) -> str | None:
    if principal is None or name == "principals":
        return principal
    parts = principal.split("/")
    if name == "trustDomains":
        return parts[0]
    if len(parts) < 3 or parts[1] != "ns" or not (wide or parts[0] in world.trust_domains):
        return None
    if name == "namespaces":
        return parts[2]
    return f"{parts[2]}/{parts[4]}" if len(parts) == 5 and parts[3] == "sa" else None


def _token(name: str, key: tuple[str, ...], claims: dict[str, Any]) -> list[Any]:
    if name == "requestPrincipals":
        pair = claims.get("iss"), claims.get("sub")
        return [pair] if all(isinstance(text, str) for text in pair) else []
    path = {"audiences": ("aud",), "presenter": ("azp",)}.get(name, key)
    found: Any = claims
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, str):
        return found.split() if path in (("scope",), ("permission",)) else [found]
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _folded_host(host: str) -> str:
    host = host.lower()
    if ":" in host and host[host.rindex(":") + 1 :].isdigit():
        name, port = host[: host.rindex(":")], host[host.rindex(":") :]
    else:
        name, port = host, ""
    return (name[:-1] if name.endswith(".") else name) + port


def matches(name: str, value: str, text: Any, own_namespace: str, world: "World") -> bool:
    """Return whether `value` of field `name`, written in `own_namespace`, matches `text`."""
    if name in ADDRESSES:
        return _in_block(text, value)
    if name == "requestPrincipals":
        return _is_token_of(value, *text)
    if name == "principals":
        return any(form_matches(each, text) for each in _with_aliases(value, world))
    if name == "trustDomains" and value in world.trust_domains:
        return text in world.trust_domains
    if name == "serviceAccounts":
        return bool((value if "/" in value else f"{own_namespace}/{value}") == text)
    if name == "ports":
        return int(value) == int(text)
    if name == "paths" and "{" in value:
        return _template_matches(value, text)
    if name == "serverNames" or (name == "hosts" and value.endswith("*")):
        value = value.lower()
    elif name == "hosts":
        value = _folded_host(value)
    return form_matches(value, text)


def form_matches(value: str, text: str) -> bool:
    """Return whether `text` is as `value` says: anything, a suffix, a prefix, or itself."""
    if value == "*":
        return text != ""
    if value[0] == "*":
        return text[len(text) - len(value) + 1 :] == value[1:] and len(text) >= len(value) - 1
    if value[-1] == "*":
        return text[: len(value) - 1] == value[:-1]
    return text == value


def _with_aliases(value: str, world: "World") -> list[str]:
    parts = value.split("/")
    ours = parts[0] in world.trust_domains or parts[0] == "cluster.local"
    if len(parts) != 5 or not ours:
        return [value]
    return ["/".join([name, *parts[1:]]) for name in world.trust_domains]


def _is_token_of(value: str, issuer: str, subject: str) -> bool:
    if value == "*":
        return issuer != "" and subject != ""
    if "/" not in value:
        if value[0] == "*":
            return issuer != "" and form_matches(value, subject)
        return form_matches(value, issuer) and subject != ""
    cut = value.rindex("/")
    return form_matches(value[:cut], issuer) and form_matches(value[cut + 1 :], subject)


def _template_matches(template: str, path: str) -> bool:
    """Return whether `path` is as `template` says, by trying every way to cut it."""
    if template == "":
        return path == ""
    if template.startswith("{**}"):
        return any(_template_matches(template[4:], path[cut:]) for cut in range(len(path) + 1))
    if template.startswith("{*}"):
        ends = [cut for cut in range(1, len(path) + 1) if "/" not in path[:cut]]
        return any(_template_matches(template[3:], path[cut:]) for cut in ends)
    return path[:1] == template[0] and _template_matches(template[1:], path[1:])


def _in_block(address: str, block: str) -> bool:
    base, _, length = block.partition("/")
    one, other = _bits(address), _bits(base)
    if len(one) != len(other):
        return False
    size = int(length) if length else len(other)
    return one[:size] == other[:size]


def _bits(address: str) -> str:
    if "." in address:
        packed = socket.inet_pton(socket.AF_INET, address.removeprefix("::ffff:"))
    else:
        packed = socket.inet_pton(socket.AF_INET6, address)
    return "".join(f"{byte:08b}" for byte in packed)
