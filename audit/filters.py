"""What a filter of a query may say, and the spelling in which the log has it. Pure.

A filter that cannot be what it says is an error that names it, and what it may be; never an empty
answer: a typing mistake must not look like "nothing happened".
"""

import re
from typing import Final

from audit.entry import KINDS, OUTCOMES
from meshca.errors import RequestRefused

MAXIMUM_TEXT: Final = 2_048
_SHOWN: Final = 80
_HEX: Final = re.compile(r"[0-9a-f]+")
_SERIAL_DIGITS: Final = 40
_SHA256_DIGITS: Final = 64


def spelled(name: str, value: str) -> str:
    """Return `value` of the filter `name` as entries spell it; raises RequestRefused."""
    if not value.strip():
        raise RequestRefused("empty_filter", f"{name} is empty: say which, or leave it out")
    if len(value) > MAXIMUM_TEXT:
        raise RequestRefused(name, f"{name} is longer than {MAXIMUM_TEXT} characters")
    if name == "kind":
        return one_of(name, value, KINDS)
    if name == "outcome":
        return one_of(name, value, OUTCOMES)
    if name == "serial":
        return parse_serial(value)
    if name == "fingerprint":
        return parse_fingerprint(value)
    if name == "spiffe_id" and not value.startswith("spiffe://"):
        raise RequestRefused(name, f"{name} {value[:_SHOWN]!r} does not begin with spiffe://")
    return value


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value`, which must be one of `allowed`; raises RequestRefused naming them."""
    if value not in allowed:
        known = ", ".join(allowed)
        raise RequestRefused(
            f"unknown_{name}", f"unknown {name} {value[:_SHOWN]!r}; known: {known}"
        )
    return value


def parse_serial(text: str) -> str:
    """Return a serial as entries spell it, however it is written: 00:AB:12, 0xab12, AB12."""
    digits = _digits(text, "serial=").lstrip("0") or "0"
    if not _HEX.fullmatch(digits) or len(digits) > _SERIAL_DIGITS:
        raise RequestRefused(
            "serial",
            f"serial {text[:_SHOWN]!r} is not a hexadecimal number of 1 to {_SERIAL_DIGITS} "
            "digits, with or without colons or 0x",
        )
    return digits


def parse_fingerprint(text: str) -> str:
    """Return a certificate's SHA-256 as entries spell it, however it is written."""
    digits = _digits(text, "sha256 fingerprint=", "sha256:")
    if not _HEX.fullmatch(digits) or len(digits) != _SHA256_DIGITS:
        raise RequestRefused(
            "fingerprint",
            f"fingerprint {text[:_SHOWN]!r} is not a SHA-256: {_SHA256_DIGITS} hexadecimal digits, "
            "with or without colons",
        )
    return digits


def _digits(text: str, *heads: str) -> str:
    text = text.strip().lower()
    for head in heads:
        text = text.removeprefix(head)
    return text.removeprefix("0x").replace(":", "").replace(" ", "")
