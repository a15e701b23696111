"""CEF, ArcSight's Common Event Format, version 0. Pure.

    CEF:0|vendor|product|version|event class|name|severity|key=value key=value ...

Escapes, to the letter of the standard: in the header backslash and pipe, and no line breaks; in
values backslash, equals and line breaks, pipes as they are. Whatever else does not print is made
visible first. Values are as long as the standard's dictionary allows.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from audit.export.severity import CEF, severity_of
from audit.export.text import clipped, visible
from audit.log import Stored

_PLACE: Final = ("cluster", "namespace", "service_account", "pod", "node")
_NAMED: Final = (
    ("cs1", "serial", 4000),
    ("cs2", "fingerprint", 4000),
    ("cs3", "destination", 4000),
    ("cs4", "policy", 4000),
    ("cs5", "requestId", 4000),
)


def event(stored: Stored, *, origin: str, version: str) -> bytes:
    """Return the line of one entry of the log `origin`, recorded by this `version` of meshca."""
    document: dict[str, Any] = stored.document() or {}
    outcome = str(document.get("outcome", ""))
    severity = CEF[severity_of(stored.kind, outcome)]
    name = f"{stored.kind} {outcome}" if document else f"{stored.kind} redacted"
    head = ("CEF:0", "meshca", "meshca", version, stored.kind, name, str(severity))
    pairs = " ".join(
        f"{key}={in_value(clipped(text, longest))}"
        for key, text, longest in _pairs(stored, document, origin)
        if text
    )
    line = "|".join(in_header(clipped(part, 512)) for part in head) + "|" + pairs + "\n"
    return line.encode("utf-8", "replace")


def index_of(line: bytes) -> int | None:
    """Return the index of the entry in `line`; None if it is no entry's."""
    _, _, rest = line.partition(b"|externalId=")
    digits = rest.partition(b" ")[0].strip()
    return int(digits) if line.startswith(b"CEF:0|") and digits.isdigit() else None


def in_header(text: str) -> str:
    """Return `text` as a field of the header."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|")


def in_value(text: str) -> str:
    """Return `text` as a value of the extension."""
    lines = text.replace("\\", "\\\\").replace("=", "\\=")
    if lines.isprintable():
        return lines
    return "".join(_visible_in_value(c) for c in lines)


def _visible_in_value(character: str) -> str:
    if character in "\r\n":
        return {"\r": "\\r", "\n": "\\n"}[character]
    return visible(character).replace("\\", "\\\\") if not character.isprintable() else character


def _pairs(stored: Stored, document: dict[str, Any], origin: str) -> Iterator[tuple[str, str, int]]:
    """Yield key, value and the longest that the dictionary allows."""
    yield "externalId", str(stored.index), 40
    yield "rt", str(stored.time_us // 1000), 40
    yield "deviceExternalId", origin, 255
    yield "cat", stored.kind, 1023
    yield "outcome", str(document.get("outcome", "")), 63
    yield "suser", str(document.get("actor", "")), 1023
    yield "duser", str(document.get("spiffe_id", "")), 1023
    yield "reason", str(document.get("reason", "")), 1023
    for key, label, longest in _NAMED:
        if text := str(document.get("request_id" if label == "requestId" else label, "")):
            yield f"{key}Label", label, 1023
            yield key, text, longest
    if details := document.get("details"):
        yield "cs6Label", "details", 1023
        yield "cs6", orjson.dumps(details).decode(), 4000
    if any(document.get(name) for name in _PLACE):
        yield "flexString1Label", "/".join(_PLACE), 128
        yield "flexString1", "/".join(str(document.get(name, "")) for name in _PLACE), 1023
    yield "flexString2Label", "leafHash", 128
    yield "flexString2", stored.leaf_hash.hex(), 1023
