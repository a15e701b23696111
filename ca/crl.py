"""A leaf issuer's certificate revocation list as DER (RFC 5280 5), written from parts.

    encode_entry for each -> encode_crl -> sign_crl

The bytes are those of `cryptography`'s builder, which takes time with the square of the entries (a
test asserts it for small lists). Entries are encoded one by one, so that whoever keeps them pays
for one more only what joining and signing cost. Their order is the caller's.

Lists begin earlier than they are made, for verifiers whose clock is behind, and end with their
authority or after thirty days. Not here: what is revoked, and when a list is due (ca/revocation).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ca import der
from ca.authority import Authority
from ca.keys import PrivateKeySigner, algorithm_and_hash, check_public_key
from ca.revocation.reason import Reason
from ca.tbs import assemble
from meshca.errors import IssuanceFault, MeshcaError

VALID: Final = timedelta(days=30)
BACKDATE: Final = timedelta(minutes=10)
_VERSION_2: Final = bytes.fromhex("020101")
_AUTHORITY_KEY_ID: Final = bytes.fromhex("0603551d23")
_CRL_NUMBER: Final = bytes.fromhex("0603551d14")
_REASON_CODE: Final = bytes.fromhex("0603551d15")
_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE = 0x02, 0x04, 0x0A, 0x30
_MAXIMUM_SERIAL: Final = 20


class CrlFields(NamedTuple):
    """What a list says besides its entries; times are whole seconds in UTC."""

    signature_algorithm: bytes
    issuer: bytes
    authority_key_id: bytes
    number: int
    this_update: datetime
    next_update: datetime


def crl_fields(authority: Authority, *, number: int, now: datetime) -> CrlFields:
    """Return those of a list of `authority` made at `now`: inside of its life, ten minutes back."""
    now = now.replace(microsecond=0)
    return CrlFields(
        authority.signature_algorithm,
        authority.subject_der,
        authority.subject_key_id,
        number,
        max(now - BACKDATE, authority.not_before),
        min(now + VALID, authority.not_after),
    )


def encode_entry(serial: int, revoked_at: datetime, reason: Reason) -> bytes:
    """Return a revokedCertificate; without a reason code if it would say nothing (5.3.1).

    Raises ValueError for a serial of more than twenty octets (4.1.2.2).
    """
    size = serial.bit_length() // 8 + 1
    if size > _MAXIMUM_SERIAL:
        raise ValueError(f"a serial number of {size} octets")
    since = _since(revoked_at, reason)
    # Every length is a short one: written out, since this is most of the work of a long list.
    head = bytes((_SEQUENCE, 2 + size + len(since), _INTEGER, size))
    return head + serial.to_bytes(size, "big") + since


@lru_cache(maxsize=1024)  # what is revoked together says the same
def _since(revoked_at: datetime, reason: Reason) -> bytes:
    at = der.time(revoked_at)
    if reason is Reason.unspecified:
        return at
    code = der.encode(_ENUMERATED, bytes((reason.value,)))
    return at + der.encode(_SEQUENCE, _extension(_REASON_CODE, code))


def encode_crl(fields: CrlFields, entries: Iterable[bytes]) -> bytes:
    """Return the DER TBSCertList of `entries`, each as `encode_entry` returns it."""
    key_id = der.encode(_SEQUENCE, der.encode(0x80, fields.authority_key_id))
    extensions = der.encode(
        _SEQUENCE,
        _extension(_AUTHORITY_KEY_ID, key_id),
        _extension(_CRL_NUMBER, der.integer(fields.number)),
    )
    revoked = b"".join(entries)
    return der.encode(
        _SEQUENCE,
        _VERSION_2,
        fields.signature_algorithm,
        fields.issuer,
        der.time(fields.this_update),
        der.time(fields.next_update),
        der.encode(_SEQUENCE, revoked) if revoked else b"",  # absent if there are none (5.1.2.6)
        der.encode(0xA0, extensions),
    )


def _extension(oid: bytes, value: bytes) -> bytes:
    return der.encode(_SEQUENCE, oid, der.encode(_OCTETS, value))


def sign_crl(authority: Authority, tbs: bytes) -> bytes:
    """Return the DER CertificateList; the signer may block.

    A signature by a key that is not in this process is verified, as for leaves (ca/issuer.py): a
    list that is not right makes proxies refuse everybody. Raises IssuanceFault, also when the
    signer fails, unless it says why with an error of its own.
    """
    signer = authority.signer
    try:
        signature = signer.sign(tbs)
        if not isinstance(signer, PrivateKeySigner):
            _verify(authority, tbs, signature)
    except MeshcaError:
        raise
    except InvalidSignature as error:
        raise IssuanceFault(
            f"authority {authority.authority_id}: the list it signed does not verify"
        ) from error
    except Exception as error:  # a signer is anybody's code, and its failure is recorded
        raise IssuanceFault(
            f"authority {authority.authority_id}: its key did not sign a list ({error!r})"
        ) from error
    return assemble(tbs, authority.signature_algorithm, signature)


def _verify(authority: Authority, tbs: bytes, signature: bytes) -> None:
    """Raise InvalidSignature unless the authority's certified key made `signature`.

    `is_signature_valid` of the list would encode every entry again.
    """
    key = check_public_key(authority.certificate.public_key())
    _, digest = algorithm_and_hash(key)
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, tbs, padding.PKCS1v15(), digest)
    else:
        key.verify(signature, tbs, ec.ECDSA(digest))


def count_entries(encoded: bytes) -> int:
    """Return how many certificates a DER list revokes; raises ValueError if it is none."""
    return len(x509.load_der_x509_crl(encoded))
