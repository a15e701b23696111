"""Making any entry storable: what callers claimed of themselves may be no text a database takes.

A token's claim can hold a lone surrogate, a NUL, a number of a thousand digits, or a mebibyte.
Refusing to record such a refusal would be a way to go unseen, so the value is replaced or clipped.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from audit.entry import Entry

MAXIMUM_TEXT = 1_024
MAXIMUM_ITEMS = 32
MAXIMUM_DEPTH = 4
_LARGEST_INTEGER = 2**53


def storable(entry: Entry) -> Entry:
    """Return `entry` with every value such that canonical JSON and the database hold it."""
    values: dict[str, Any] = {
        field.name: _text(getattr(entry, field.name))
        for field in fields(entry)
        if isinstance(getattr(entry, field.name), str)
    }
    return replace(entry, details=_value(entry.details, MAXIMUM_DEPTH), **values)


def _text(text: str) -> str:
    clipped = text[:MAXIMUM_TEXT] + ("…" if len(text) > MAXIMUM_TEXT else "")
    return clipped.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_INTEGER else _text(hex(value))
    if isinstance(value, Mapping) and depth:
        items = list(value.items())[:MAXIMUM_ITEMS]
        return {_text(str(key)): _value(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple) and depth:
        return [_value(item, depth - 1) for item in value[:MAXIMUM_ITEMS]]
    return _text(value if isinstance(value, str) else f"({type(value).__name__})")
