"""What of an entry can be searched for, and the key that stands for it in the index.

A term is a field and a value. A serial also stands where an entry speaks of many (`details` has
`serials`). Whoever extends this changes what new segments hold: old ones must be built again.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

FIELDS: Final = (
    "kind",
    "outcome",
    "actor",
    "spiffe_id",
    "serial",
    "fingerprint",
    "cluster",
    "namespace",
    "service_account",
    "pod",
    "node",
    "destination",
    "policy",
    "request_id",
    "reason",
)
"""The fields of an entry that queries compare; empty text is no value."""

KEY_BITS: Final = 64


def terms_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the terms of an entry's body; one may come twice."""
    for field in FIELDS:
        value = document.get(field)
        if value and type(value) is str:
            yield field, value
    details = document.get("details")
    if type(details) is dict and type(serials := details.get("serials")) is list:
        for serial in serials:
            if serial and type(serial) is str:
                yield "serial", serial


def key_of(field: str, value: str) -> int:
    """Return the 64-bit key of a term; two terms may share one, if somebody makes them so."""
    text = f"{field}\x00{value}".encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=KEY_BITS // 8).digest(), "big")
