"""What of an entry can be searched for, and the key that stands for it in the index.

A term is a field and a value. A serial also stands where an entry speaks of many (`details` has
`serials`). Whoever extends this changes what new segments hold: old ones must be built again.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from audit.entry import TEXTS

FIELDS: Final = TEXTS
"""The fields of an entry that queries compare; empty text is no value."""

KEY_BITS: Final = 64


def shared_serials(document: Mapping[str, Any]) -> Sequence[str]:
    """Return the serials of an entry that speaks of several."""
    details = document.get("details")
    serials = details.get("serials") if type(details) is dict else None
    if type(serials) is not list:
        return ()
    return [serial for serial in serials if serial and type(serial) is str]


def has_term(document: Mapping[str, Any], field: str, value: str) -> bool:
    """Return whether an entry's body has the term."""
    if document.get(field) == value:
        return True
    return field == "serial" and value in shared_serials(document)


def key_of(field: str, value: str) -> int:
    """Return the 64-bit key of a term; two terms may share one, if somebody makes them so."""
    text = f"{field}\x00{value}".encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=KEY_BITS // 8).digest(), "big")
