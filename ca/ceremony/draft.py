"""What a ceremony will sign: certificates and lists, built from the plan and linted beforehand.

A draft is rehearsed with a stand-in key of the signing key's kind, which yields the very octets
that the real key will sign; those are linted, and what the real key signs must be those octets.
Everything that the plan, or a file it names, gets wrong becomes a problem at the plan's key, and
all of them are reported together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509

from ca.ca_certificate import signing_hash
from ca.ceremony import ca_lint, crl_lint
from ca.ceremony.plan import Key, LoadedPlan, Validity
from ca.keys import PrivateKey, check_public_key
from meshca.errors import InvalidDocument, IssuanceFault, Problem

Signed = x509.Certificate | x509.CertificateRevocationList


class Draft(Protocol):
    """Something to be signed."""

    @property
    def key(self) -> Key:
        """Its place in the plan."""
        ...

    @property
    def output(self) -> Path:
        """The file it goes to."""
        ...

    def rehearse(self, stand_in: PrivateKey) -> bytes:
        """Return the octets to be signed, linted; raises IssuanceFault."""
        ...

    def sign(self, key: PrivateKey, rehearsed: bytes) -> Signed:
        """Return what `key` signed, if it is what was rehearsed; raises IssuanceFault."""
        ...


@dataclass(frozen=True, slots=True)
class CertificateDraft:
    """A CA certificate to be."""

    key: Key
    output: Path
    builder: x509.CertificateBuilder = field(repr=False)
    expected: ca_lint.Expectation

    def rehearse(self, stand_in: PrivateKey) -> bytes:
        """Return the TBSCertificate, linted; raises IssuanceFault."""
        certificate = self._sign(stand_in)
        ca_lint.check(certificate, self.expected)
        return certificate.tbs_certificate_bytes

    def sign(self, key: PrivateKey, rehearsed: bytes) -> x509.Certificate:
        """Return the certificate, linted again; raises IssuanceFault."""
        certificate = self._sign(key)
        if certificate.tbs_certificate_bytes != rehearsed:
            raise IssuanceFault(f"{self.output}: what was signed is not what was linted")
        ca_lint.check_signed(certificate, self.expected)
        return certificate

    def _sign(self, key: PrivateKey) -> x509.Certificate:
        return self.builder.sign(key, signing_hash(check_public_key(key.public_key())))


@dataclass(frozen=True, slots=True)
class CrlDraft:
    """A revocation list to be."""

    key: Key
    output: Path
    builder: x509.CertificateRevocationListBuilder = field(repr=False)
    expected: crl_lint.Expectation

    def rehearse(self, stand_in: PrivateKey) -> bytes:
        """Return the TBSCertList, linted; raises IssuanceFault."""
        crl = self._sign(stand_in)
        crl_lint.check(crl, self.expected)
        return crl.tbs_certlist_bytes

    def sign(self, key: PrivateKey, rehearsed: bytes) -> x509.CertificateRevocationList:
        """Return the list, linted again; raises IssuanceFault."""
        crl = self._sign(key)
        if crl.tbs_certlist_bytes != rehearsed:
            raise IssuanceFault(f"{self.output}: what was signed is not what was linted")
        crl_lint.check_signed(crl, self.expected)
        return crl

    def _sign(self, key: PrivateKey) -> x509.CertificateRevocationList:
        return self.builder.sign(key, signing_hash(check_public_key(key.public_key())))


def rehearse_all(loaded: LoadedPlan, drafts: Iterable[Draft], stand_in: PrivateKey) -> list[bytes]:
    """Return what each draft will have signed; raises InvalidDocument with every broken rule."""
    rehearsed: list[bytes] = []
    problems: list[Problem] = []
    for draft in drafts:
        try:
            rehearsed.append(draft.rehearse(stand_in))
        except IssuanceFault as fault:
            problems.append(loaded.problem(draft.key, str(fault)))
    if problems:
        raise InvalidDocument(problems)
    return rehearsed


def validity_of(
    loaded: LoadedPlan, key: Key, validity: Validity, now: datetime
) -> tuple[datetime, datetime]:
    """Return from when to when; raises InvalidDocument when that is over already."""
    begin, end = validity.of(now)
    if end <= now:
        message = f"ends at {end.isoformat()}; it is {now.isoformat()}"
        raise InvalidDocument([loaded.problem(key, message)])
    return begin, end
