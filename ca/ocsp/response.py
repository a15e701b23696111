"""What an OCSP responder answers (RFC 6960 4.2), written as DER.

The bytes are those that `cryptography`'s builder makes (a test asserts it), at a quarter of its
cost; that builder holds one certificate only, and requests may ask for several. Of a caller's
octets a response has serials and a nonce, both bounded, and nothing else.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from ca import der
from ca.ocsp.request import CertId

KEY_COMPROMISED_AUTHORITY: Final = 2
"""CRLReason cACompromise (RFC 5280 5.3.1)."""

_HASHES: Final = {  # AlgorithmIdentifiers with NULL parameters, as every client writes them
    "sha1": bytes.fromhex("300906052b0e03021a0500"),
    "sha256": bytes.fromhex("300d06096086480165030402010500"),
}
_GOOD: Final = bytes.fromhex("8000")
_UNKNOWN: Final = bytes.fromhex("8200")
_BASIC: Final = bytes.fromhex("06092b0601050507300101")
_NONCE: Final = bytes.fromhex("06092b0601050507300102")
_SUCCESSFUL: Final = bytes.fromhex("0a0100")


class Failure(Enum):
    """A response that says why there is no answer; the value is its OCSPResponseStatus."""

    malformed = 1
    try_later = 3
    unauthorized = 6

    @property
    def der(self) -> bytes:
        """Return the response: it is not signed."""
        return bytes((0x30, 3, 0x0A, 1, self.value))


class Revoked(NamedTuple):
    """When and why a certificate was revoked; `reason` is a CRLReason code."""

    at: datetime
    reason: int


class Status(NamedTuple):
    """What is said of one certificate: `known` and not `revoked` is good, not `known` unknown.

    It holds from `this_update`, and is to be asked again by `next_update`; whole seconds in UTC.
    """

    cert_id: CertId
    known: bool
    revoked: Revoked | None
    this_update: datetime
    next_update: datetime

    @property
    def name(self) -> str:
        """Return good, revoked or unknown."""
        if self.revoked is not None:
            return "revoked"
        return "good" if self.known else "unknown"


def response_data(
    key_hash: bytes, produced_at: datetime, statuses: Sequence[Status], nonce: bytes | None
) -> bytes:
    """Return the DER ResponseData: what the responder whose key has `key_hash` is to sign."""
    return der.encode(
        0x30,
        der.encode(0xA2, der.encode(0x04, key_hash)),
        _time(produced_at.replace(microsecond=0)),
        der.encode(0x30, *(_single(status) for status in statuses)),
        b"" if nonce is None else _nonce(nonce),
    )


def assemble(data: bytes, algorithm: bytes, signature: bytes, certificate: bytes) -> bytes:
    """Return the DER OCSPResponse of a ResponseData, its signature and the signer's certificate."""
    certificates = der.encode(0xA0, der.encode(0x30, certificate))
    basic = der.encode(0x30, data, algorithm, der.bit_string(signature), certificates)
    typed = der.encode(0x30, _BASIC, der.encode(0x04, basic))
    return der.encode(0x30, _SUCCESSFUL, der.encode(0xA0, typed))


def _single(status: Status) -> bytes:
    asked = status.cert_id
    return der.encode(
        0x30,
        der.encode(0x30, _issuer(*asked.issuer), der.integer(asked.serial)),
        _cert_status(status),
        _time(status.this_update),
        der.encode(0xA0, _time(status.next_update)),
    )


@lru_cache(maxsize=64)  # only issuers of ours come here, and they are few
def _issuer(algorithm: str, name_hash: bytes, key_hash: bytes) -> bytes:
    return _HASHES[algorithm] + der.encode(0x04, name_hash) + der.encode(0x04, key_hash)


def _cert_status(status: Status) -> bytes:
    if status.revoked is None:
        return _GOOD if status.known else _UNKNOWN
    reason = status.revoked.reason
    # RFC 5280 5.3.1: a reason that is unspecified is left out.
    said = der.encode(0xA0, bytes((0x0A, 1, reason))) if reason else b""
    return der.encode(0xA1, _time(status.revoked.at), said)


def _nonce(nonce: bytes) -> bytes:
    value = der.encode(0x04, der.encode(0x04, nonce))
    return der.encode(0xA1, der.encode(0x30, der.encode(0x30, _NONCE, value)))


@lru_cache(maxsize=64)  # answers of one second share their times
def _time(at: datetime) -> bytes:
    return b"\x18\x0f" + at.strftime("%Y%m%d%H%M%SZ").encode()
