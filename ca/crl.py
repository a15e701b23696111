"""The certificate revocation list of an authority that has revoked nothing (RFC 5280 5).

Certificates name a CRL distribution point when a public listener answers there, and a client that
asks must find a current list. Revoking is not built yet: this list is always empty.
"""

from datetime import datetime, timedelta
from typing import Final

from ca import der
from ca.authority import Authority
from ca.tbs import assemble

VALID: Final = timedelta(days=7)
BACKDATE: Final = timedelta(minutes=5)
_VERSION_2: Final = bytes.fromhex("020101")
_AUTHORITY_KEY_ID: Final = bytes.fromhex("0603551d23")
_CRL_NUMBER: Final = bytes.fromhex("0603551d14")


def empty_crl(authority: Authority, *, now: datetime) -> bytes:
    """Return the DER CRL of `authority` without entries, good for a week, but not beyond it.

    Its number is the second it was made in, so that it grows without being stored.
    """
    now = now.replace(microsecond=0)
    number = der.encode(0x04, der.integer(int(now.timestamp())))
    key_id = der.encode(0x04, der.encode(0x30, der.encode(0x80, authority.subject_key_id)))
    extensions = der.encode(
        0x30,
        der.encode(0x30, _AUTHORITY_KEY_ID, key_id),
        der.encode(0x30, _CRL_NUMBER, number),
    )
    algorithm = authority.signer.signature_algorithm
    tbs = der.encode(
        0x30,
        _VERSION_2,
        algorithm,
        authority.subject_der,
        der.time(max(now - BACKDATE, authority.not_before)),
        der.time(min(now + VALID, authority.not_after)),
        der.encode(0xA0, extensions),
    )
    return assemble(tbs, algorithm, authority.signer.sign(tbs))
