"""`meshca authz check`: one JSON request in, one JSON answer out (design.md section 4).

    {"id", "source": {"principal", "ip", "remote_ip", "request_principal", "claims"},
     "destination": {"namespace", "labels", "port", "ip", "sni"},
     "http": {"method", "host", "path", "headers"}}                  http is absent for TCP
    -> {"id", "verdict": "allow" | "deny", "policy", "rule", "reason", "shadow": []}

Rules. `policy` is `namespace/name` and `rule` its number from 0; both are null where no rule
decided. What is not said is unknown, not empty: it fails in ALLOW and holds in DENY, and the
reason says so. A line that is not such a request is answered deny, with the mistake as reason.
Fields that the first cut of the language does not look at are checked for their type only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from authz.engine import decide
from authz.policy import PolicySet
from authz.request import Http, Request
from authz.workload import Workload
from meshca.errors import RequestRefused
from meshca.logs import clip
from meshca.spiffe_id import SpiffeId

_SCHEME = "spiffe://"
_HIGHEST_PORT = 65535


def check(policies: PolicySet, request: Any) -> dict[str, Any]:
    """Return the answer to `request`, a parsed JSON value; it never raises for a bad one."""
    identifier = request.get("id") if isinstance(request, dict) else None
    try:
        parsed = parse_request(request)
    except RequestRefused as error:
        return _answer(identifier, allowed=False, reason=f"invalid request: {error}")
    decision = decide(policies, parsed)
    answer = _answer(identifier, allowed=decision.allowed, reason=decision.reason)
    if decision.rule is not None:
        answer |= {"policy": decision.rule.policy, "rule": decision.rule.index}
    return answer


def check_lines(policies: PolicySet, lines: Iterable[str]) -> Iterator[str]:
    """Yield one line of JSON for each line of JSON that is not blank."""
    for line in lines:
        if line.strip():
            yield orjson.dumps(_check_line(policies, line)).decode()


def _check_line(policies: PolicySet, line: str) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _answer(None, allowed=False, reason=f"invalid request: not JSON: {error}")
    return check(policies, request)


def _answer(identifier: Any, *, allowed: bool, reason: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "verdict": "allow" if allowed else "deny",
        "policy": None,
        "rule": None,
        "reason": reason,
        "shadow": [],
    }


def parse_request(value: Any) -> Request:
    """Return the request that `value`, a parsed JSON value, describes.

    Raises RequestRefused, naming the field that is wrong or unknown.
    """
    top = _fields(value, "", ("id", "source", "destination", "http"))
    destination = _part(top, "destination")
    http = None if top.get("http") is None else _http(_part(top, "http"))
    return Request(
        source=_principal(_part(top, "source").get("principal")),
        destination=Workload(_namespace(destination), _labels(destination.get("labels"))),
        port=_port(destination.get("port")),
        http=http,
    )


def _refuse(path: str, message: str) -> RequestRefused:
    where = f"{path}: " if path else ""
    return RequestRefused("invalid_request", clip(f"{where}{message}", 300))


def _fields(value: Any, path: str, known: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _refuse(path, "must be an object")
    for key in value:
        if key not in known:
            raise _refuse(f"{path}.{key}" if path else key, "unknown field")
    return value


def _part(top: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return one part of the request, each of whose fields has its type or is null."""
    value = top.get(name)
    fields = _fields({} if value is None else value, name, _PARTS[name])
    for key, given in fields.items():
        if given is not None and not _PARTS[name][key](given):
            raise _refuse(f"{name}.{key}", "has the wrong type")
    return fields


def _principal(text: str | None) -> SpiffeId | None:
    if not text:
        return None
    try:
        identity = SpiffeId.parse(text if text.startswith(_SCHEME) else _SCHEME + text)
    except ValueError as error:
        raise _refuse("source.principal", str(error)) from error
    if not identity.is_leaf:
        raise _refuse("source.principal", "is a trust domain, which no workload carries")
    return identity


def _namespace(destination: Mapping[str, Any]) -> str:
    namespace = destination.get("namespace")
    if not namespace:
        raise _refuse("destination.namespace", "missing")
    return str(namespace)


def _labels(labels: dict[str, Any] | None) -> dict[str, str]:
    for key, value in (labels or {}).items():
        if not isinstance(value, str):
            raise _refuse(f"destination.labels.{key}", "must be text")
    return labels or {}


def _port(port: int | None) -> int | None:
    if port is not None and not 0 <= port <= _HIGHEST_PORT:
        raise _refuse("destination.port", f"must be from 0 to {_HIGHEST_PORT}")
    return port


def _http(fields: Mapping[str, Any]) -> Http:
    return Http(method=fields.get("method"), path=fields.get("path"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_PARTS: Final[Mapping[str, Mapping[str, Callable[[Any], bool]]]] = {
    "source": {
        "principal": _is_text,
        "ip": _is_text,
        "remote_ip": _is_text,
        "request_principal": _is_text,
        "claims": _is_object,
    },
    "destination": {
        "namespace": _is_text,
        "labels": _is_object,
        "port": _is_number,
        "ip": _is_text,
        "sni": _is_text,
    },
    "http": {"method": _is_text, "host": _is_text, "path": _is_text, "headers": _is_object},
}
