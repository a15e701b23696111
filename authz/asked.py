"""A request as JSON (design.md section 4), parsed into the model.

    {"id", "time",
     "source": {"principal", "ip", "remote_ip", "request_principal", "claims"},
     "destination": {"namespace", "labels", "port", "ip", "sni"},
     "http": {"method", "host", "path", "headers"}}                  http is absent for TCP

Rules. What is not said is unknown, not empty. `request_principal` is `issuer/subject`, split at the
last slash; with `claims` it must be theirs; on TCP neither means anything. A header's value is
text, or a list of its lines. `time` is RFC 3339 or seconds since the epoch. Paths are taken as they
are: `normal_path` says what a proxy of ours would make of one.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from authz.request import Http, Request
from authz.values import parse_address
from authz.workload import Workload
from meshca.errors import RequestRefused
from meshca.logs import clip
from meshca.spiffe_id import SpiffeId

_SCHEME: Final = "spiffe://"
_HIGHEST_PORT: Final = 65535
_ESCAPE: Final = re.compile(r"%([0-9a-fA-F]{2})")
_DECODED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/\\")
_SUSPECT: Final = re.compile(r"//|/\.|\\|%")


def parse_request(value: Any) -> Request:
    """Return the request that `value`, a parsed JSON value, describes.

    Raises RequestRefused, naming the field that is wrong or unknown.
    """
    top = _fields(value, "", ("id", "time", "source", "destination", "http"))
    source, destination = _part(top, "source"), _part(top, "destination")
    has_http = top.get("http") is not None
    claims = _claims(source)
    return Request(
        source=_principal(source.get("principal")),
        destination=Workload(_namespace(destination), _labels(destination.get("labels"))),
        port=_port(destination.get("port")),
        http=_http(_part(top, "http"), claims) if has_http else None,
        source_ip=_ip(source, "source", "ip"),
        remote_ip=_ip(source, "source", "remote_ip"),
        destination_ip=_ip(destination, "destination", "ip"),
        sni=destination.get("sni") or None,
        time=_time(top.get("time")),
    )


def normal_path(path: str) -> str:
    """Return the path that a proxy of ours shows to policy for a request with `path`.

    It decodes slashes and unreserved characters once, turns backslashes, takes out dot segments and
    joins slashes; the query stays as it is.
    """
    if _SUSPECT.search(path) is None:
        return path
    name, mark, query = path.partition("?")
    decoded = _ESCAPE.sub(_decode, name).replace("\\", "/")
    segments: list[str] = []
    parts = decoded.split("/")
    for part in parts:
        if part == "..":
            segments = segments[:-1]
        elif part not in ("", "."):
            segments.append(part)
    is_directory = parts[-1] in ("", ".", "..") and bool(segments)
    return f"/{'/'.join(segments)}{'/' if is_directory else ''}{mark}{query}"


def _decode(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _DECODED else match[0]


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


def _claims(source: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the claims of the request's token: those given, and what `request_principal` says."""
    claims, principal = source.get("claims"), source.get("request_principal")
    if not principal:
        return claims
    issuer, slash, subject = principal.rpartition("/")
    if not (slash and issuer and subject):
        raise _refuse("source.request_principal", "must be issuer/subject")
    said = {"iss": issuer, "sub": subject}
    given = claims or {}
    if given.get("iss") is None and given.get("sub") is None:
        return {**given, **said}
    if f"{given.get('iss')}/{given.get('sub')}" != principal:
        raise _refuse("source.request_principal", "is not iss and sub of the claims")
    return given


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


def _ip(part: Mapping[str, Any], name: str, key: str) -> str | None:
    text = part.get(key)
    if text and parse_address(text) is None:
        raise _refuse(f"{name}.{key}", "is no IP address")
    return text or None


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _refuse("time", "must be RFC 3339 with a zone, or seconds since the epoch")
    return time.timestamp()


def _http(fields: Mapping[str, Any], claims: Mapping[str, Any] | None) -> Http:
    return Http(
        method=fields.get("method"),
        path=fields.get("path"),
        host=fields.get("host"),
        headers=_headers(fields.get("headers")),
        claims=claims,
    )


def _headers(headers: dict[str, Any] | None) -> Mapping[str, str] | None:
    """Return headers by lower-case name; lines of one, however it is written, joined by commas."""
    if headers is None:
        return None
    lines: dict[str, list[str]] = {}
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise _refuse(f"http.headers.{name}", "must be text, or a list of texts")
        lines.setdefault(name.lower(), []).extend(values)
    return {name: ",".join(values) for name, values in lines.items()}


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
