"""The revocation list of a CA above our intermediates: read, verified, and looked at closely.

A list that is wrong in any way makes an Envoy that checks whole chains refuse everybody, and it
says so to nobody. So what its verifier (BoringSSL) would stumble over is found here, before.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID

from ca.upstream.chain import describe, is_issued_by, spki
from meshca.errors import AuthorityUnavailable

CLOCK_TOLERANCE: Final = timedelta(minutes=1)
_HARMLESS: Final = (CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE)


@dataclass(frozen=True, slots=True)
class IssuerCrl:
    """A revocation list whose signature was verified; it says nothing after `next_update`."""

    issuer: x509.Certificate = field(repr=False)
    this_update: datetime
    next_update: datetime
    der: bytes = field(repr=False)
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)

    def is_current(self, now: datetime) -> bool:
        """Return whether the list may be relied on now."""
        return self.this_update - CLOCK_TOLERANCE <= now < self.next_update

    def revokes(self, certificate: x509.Certificate) -> bool:
        """Return whether `certificate`, one that this issuer signed, is in the list."""
        number = certificate.serial_number
        listed = self.parsed.get_revoked_certificate_by_serial_number(number) is not None
        return listed and is_issued_by(certificate, self.issuer)


def read_issuer_crl(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> IssuerCrl:
    """Return `crl` as the list of `issuer`; raises AuthorityUnavailable where it is not its own.

    Whether verifiers would take it is for `check_usable` to say.
    """
    whose = f"the revocation list of {describe(issuer)}"
    try:
        begin, end = crl.last_update_utc, crl.next_update_utc
        named = crl.issuer.public_bytes() == issuer.subject.public_bytes()
        signed = crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        len(crl)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityUnavailable(f"{whose} cannot be read") from error
    if end is None:
        raise AuthorityUnavailable(f"{whose} does not say when the next one comes")
    if not named or not signed:
        raise AuthorityUnavailable(f"{whose} is not signed by it")
    return IssuerCrl(issuer, begin, end, crl.public_bytes(Encoding.DER), crl)


def check_usable(crl: IssuerCrl) -> None:
    """Raise AuthorityUnavailable, saying why, if verifiers would refuse everybody for this list.

    RFC 5280 6.3.3: its issuer may sign lists (f), its key identifier is the issuer's, and it is
    a whole list of everything that the issuer signed: no delta, no part, no other's entries (b).
    """
    whose = f"the revocation list of {describe(crl.issuer)}"
    try:
        usage = crl.issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            raise AuthorityUnavailable(f"{describe(crl.issuer)} may not sign revocation lists")
        for extension in crl.parsed.extensions:
            _check_extension(extension, crl.issuer, whose)
        for entry in crl.parsed:
            others = [e.oid.dotted_string for e in entry.extensions if e.oid not in _HARMLESS]
            if others:
                raise AuthorityUnavailable(f"{whose} has an entry with extension {others[0]}")
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise AuthorityUnavailable(f"{whose} cannot be used: {error}") from error


def _check_extension(
    extension: x509.Extension[x509.ExtensionType], issuer: x509.Certificate, whose: str
) -> None:
    value = extension.value
    if isinstance(value, x509.AuthorityKeyIdentifier):
        key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        if value.key_identifier not in (None, key_id):
            raise AuthorityUnavailable(f"{whose} names another key than its issuer's")
    elif extension.critical or isinstance(value, x509.IssuingDistributionPoint):
        raise AuthorityUnavailable(
            f"{whose} has an extension that makes it less than a whole list: "
            f"{extension.oid.dotted_string}"
        )


def same_ca(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Return whether both speak for one CA: the same name and key, as a root and its bridge do."""
    same_name = one.subject.public_bytes() == other.subject.public_bytes()
    return same_name and spki(one) == spki(other)
