"""The little DER (X.690) that issuance needs: writing a TBSCertificate, finding a key's bits.

Everything from outside is parsed by `cryptography`; this file only reads what that library wrote,
and writes what that library then reads back before the authority's key is used.
"""

from datetime import datetime

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


def time(at: datetime) -> bytes:
    """Return a Time: UTCTime to the end of 2049, GeneralizedTime after (RFC 5280 4.1.2.5)."""
    if at.year <= _LAST_UTC_TIME_YEAR:
        return encode(0x17, at.strftime("%y%m%d%H%M%SZ").encode())
    return encode(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return encode(0x03, b"\x00", content)


def public_key_bits(spki: bytes) -> bytes:
    """Return the subjectPublicKey bits of a DER SubjectPublicKeyInfo."""
    body = _content(spki)
    start, length = _header(body)
    return _content(body[start + length :])[1:]


def _content(element: bytes) -> bytes:
    start, length = _header(element)
    return element[start : start + length]


def _header(element: bytes) -> tuple[int, int]:
    """Return the length of an element's header and of the content behind it."""
    first = element[1]
    if first < 0x80:
        return 2, first
    count = first & 0x7F
    return 2 + count, int.from_bytes(element[2 : 2 + count], "big")
