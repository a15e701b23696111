"""The little DER (X.690) that issuance needs: writing a certificate, taking one apart.

Everything from outside is parsed by `cryptography`. This file writes what that library then reads
back before the authority's key is used, and finds the elements of what that library has accepted;
its reader is strict all the same: one-octet tags, definite lengths in their shortest form, nothing
left over.
"""

from datetime import datetime
from functools import lru_cache

_LAST_UTC_TIME_YEAR = 2049


def encode(tag: int, *contents: bytes) -> bytes:
    """Return one DER element of `tag` around the concatenated `contents`."""
    content = b"".join(contents)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def integer(value: int) -> bytes:
    """Return a non-negative INTEGER in its shortest form."""
    return encode(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@lru_cache(maxsize=64)  # leaves of one second share their times
def validity(not_before: datetime, not_after: datetime) -> bytes:
    """Return a Validity of two whole seconds in UTC."""
    return encode(0x30, time(not_before), time(not_after))


def time(at: datetime) -> bytes:
    """Return a Time: UTCTime to the end of 2049, GeneralizedTime after (RFC 5280 4.1.2.5)."""
    if at.year <= _LAST_UTC_TIME_YEAR:
        return encode(0x17, at.strftime("%y%m%d%H%M%SZ").encode())
    return encode(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return encode(0x03, b"\x00", content)


def items(element: bytes) -> list[bytes]:
    """Return the elements inside a constructed `element`, each with its own header.

    Raises ValueError unless lengths are canonical and add up to the last octet.
    """
    start, end = _content(element, 0)
    if end != len(element):
        raise ValueError("octets after the end of a DER element")
    found = []
    while start < end:
        stop = _content(element, start)[1]
        if stop > end:
            raise ValueError("a DER element ends outside of the one around it")
        found.append(element[start:stop])
        start = stop
    return found


def contents(element: bytes) -> bytes:
    """Return the contents octets of `element`; raises ValueError as `items` does."""
    start, end = _content(element, 0)
    if end != len(element):
        raise ValueError("octets after the end of a DER element")
    return element[start:end]


def public_key_bits(spki: bytes) -> bytes:
    """Return the subjectPublicKey bits of a DER SubjectPublicKeyInfo."""
    start, _ = _content(spki, 0)
    _, algorithm_end = _content(spki, start)
    start, end = _content(spki, algorithm_end)
    return spki[start + 1 : end]


def _content(octets: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element at `at` begins and ends."""
    try:
        tag, length = octets[at], octets[at + 1]
        start = at + 2
        if length >= 0x80:
            start += length - 0x80
            length = _long_length(octets[at + 2 : start], length - 0x80)
        octets[start + length - 1]
    except IndexError as error:
        raise ValueError("a DER element is cut off") from error
    if tag & 0x1F == 0x1F:
        raise ValueError("a DER tag of several octets")
    return start, start + length


def _long_length(octets: bytes, size: int) -> int:
    length = int.from_bytes(octets, "big")
    if not size or len(octets) != size or length < 0x80 or not octets[0]:
        raise ValueError("a DER length is not in its shortest form")
    return length
