"""PEM (RFC 7468) around DER that is known to be right: nothing is parsed for it."""

import binascii
from typing import Final

_LINE: Final = 48
"""Octets a line: 64 characters."""


def crl_pem(der: bytes) -> bytes:
    """Return a DER revocation list as PEM."""
    lines = [binascii.b2a_base64(der[start : start + _LINE]) for start in range(0, len(der), _LINE)]
    return b"".join((b"-----BEGIN X509 CRL-----\n", *lines, b"-----END X509 CRL-----\n"))
