"""Revocation lists: to the byte what cryptography's builder writes, and read by openssl."""

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.authority import Authority, Signer
from ca.crl import CrlFields, count_entries, crl_fields, encode_crl, encode_entry, sign_crl
from ca.keys import PrivateKeySigner
from ca.revocation.reason import Reason
from meshca.errors import AuthorityUnavailable, IssuanceFault
from tests.builders import KEY_KINDS, NOW, Pki, make_key, make_pki
from tests.real_parts import require

PKIS = {kind: make_pki(kind) for kind in KEY_KINDS}
Entry = tuple[int, datetime, Reason]
FLAGS = {
    Reason.keyCompromise: x509.ReasonFlags.key_compromise,
    Reason.affiliationChanged: x509.ReasonFlags.affiliation_changed,
    Reason.superseded: x509.ReasonFlags.superseded,
    Reason.cessationOfOperation: x509.ReasonFlags.cessation_of_operation,
    Reason.certificateHold: x509.ReasonFlags.certificate_hold,
    Reason.privilegeWithdrawn: x509.ReasonFlags.privilege_withdrawn,
}
TIMES = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001  # hypothesis adds the zone
    max_value=datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(microsecond=0))
SERIALS = st.integers(min_value=1, max_value=2**159 - 1)
ENTRIES = st.lists(
    st.tuples(SERIALS, TIMES, st.sampled_from(Reason)), max_size=8, unique_by=lambda e: e[0]
)
NUMBERS = st.integers(min_value=0, max_value=2**63 - 1)


def make_fields(authority: Authority, number: int = 1, **changes: datetime) -> CrlFields:
    fields = crl_fields(authority, number=number, now=NOW)
    return fields._replace(**changes)  # type: ignore[arg-type]  # a builder for tests


def encode(fields: CrlFields, entries: Sequence[Entry]) -> bytes:
    return encode_crl(fields, [encode_entry(*entry) for entry in entries])


def by_the_library(fields: CrlFields, entries: Sequence[Entry], pki: Pki) -> bytes:
    """Return the TBSCertList as CertificateRevocationListBuilder writes it."""
    aki = x509.AuthorityKeyIdentifier(fields.authority_key_id, None, None)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(pki.intermediate.subject)
        .last_update(fields.this_update)
        .next_update(fields.next_update)
        .add_extension(aki, critical=False)
        .add_extension(x509.CRLNumber(fields.number), critical=False)
    )
    for serial, at, reason in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        if reason is not Reason.unspecified:
            entry = entry.add_extension(x509.CRLReason(FLAGS[reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    key = pki.intermediate_key
    wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
    digest = hashes.SHA384() if wide else hashes.SHA256()
    return builder.sign(key, digest).tbs_certlist_bytes


@settings(deadline=None)
@given(ENTRIES, NUMBERS)
def test_writes_what_the_library_writes(entries: list[Entry], number: int) -> None:
    pki = PKIS["p256"]
    fields = make_fields(pki.authority(), number)
    assert encode(fields, entries) == by_the_library(fields, entries, pki)


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("reason", Reason)
def test_writes_what_the_library_writes_for_every_key_and_reason(kind: str, reason: Reason) -> None:
    pki = PKIS[kind]
    entries = [(0x80, NOW, reason), (0x7F, NOW - timedelta(days=1), Reason.unspecified)]
    fields = make_fields(pki.authority())
    assert encode(fields, entries) == by_the_library(fields, entries, pki)


@settings(deadline=None)
@given(TIMES, TIMES)
def test_writes_the_librarys_times(this_update: datetime, after: datetime) -> None:
    pki, (begin, end) = PKIS["p256"], sorted((this_update, after))
    fields = make_fields(pki.authority(), this_update=begin, next_update=end)
    assert encode(fields, []) == by_the_library(fields, [], pki)


def test_a_serial_longer_than_any_may_be_is_refused() -> None:
    with pytest.raises(ValueError, match="21 octets"):
        encode_entry(2**160, NOW, Reason.unspecified)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_the_empty_crl_is_signed_current_and_the_authoritys(kind: str) -> None:
    authority = PKIS[kind].authority()
    crl = x509.load_der_x509_crl(sign_crl(authority, encode(make_fields(authority, 7), [])))
    key = authority.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    assert crl.is_signature_valid(key)
    assert crl.issuer == authority.certificate.subject
    assert len(crl) == 0
    aki = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == authority.subject_key_id
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7


def test_a_list_begins_ten_minutes_back_and_ends_after_thirty_days() -> None:
    old = make_pki(now=NOW - timedelta(days=2), lifetime=timedelta(days=90)).authority()
    fields = crl_fields(old, number=1, now=NOW + timedelta(microseconds=5))
    assert fields.this_update == NOW - timedelta(minutes=10)
    assert fields.next_update == NOW + timedelta(days=30)


def test_a_list_lies_inside_the_life_of_its_authority() -> None:
    authority = make_pki(lifetime=timedelta(days=7)).authority()
    fields = crl_fields(authority, number=1, now=NOW)
    assert fields.this_update == authority.not_before > NOW - timedelta(minutes=10)
    assert fields.next_update == authority.not_after


class Broken:
    """A signer that does what the test says instead of signing."""

    def __init__(self, failure: Exception | None = None, key: Signer | None = None) -> None:
        self.failure, self.key = failure, key or PrivateKeySigner(make_key())

    @property
    def signature_algorithm(self) -> bytes:
        return self.key.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        if self.failure is not None:
            raise self.failure
        return self.key.sign(message)


def test_a_signature_by_another_key_is_not_used() -> None:
    authority = PKIS["p256"].authority(Broken())
    with pytest.raises(IssuanceFault, match="does not verify"):
        sign_crl(authority, encode(make_fields(authority), []))


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (AuthorityUnavailable("sealed"), AuthorityUnavailable, "sealed"),
        (RuntimeError("boom"), IssuanceFault, "did not sign a list"),
    ],
)
def test_a_signer_that_fails_says_so(failure: Exception, error: type, said: str) -> None:
    authority = PKIS["p256"].authority(Broken(failure))
    with pytest.raises(error, match=said):
        sign_crl(authority, encode(make_fields(authority), []))


def test_openssl_reads_and_verifies_it(tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    pki = PKIS["p256"]
    authority = pki.authority()
    entries = [(0xABC, NOW, Reason.keyCompromise), (0xDEF, NOW, Reason.unspecified)]
    (tmp_path / "crl.der").write_bytes(sign_crl(authority, encode(make_fields(authority), entries)))
    (tmp_path / "ca.pem").write_bytes(pki.intermediate.public_bytes(Encoding.PEM))
    command = ["openssl", "crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "ca.pem", "-text"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "verify OK" in done.stderr
    assert "Serial Number: 0ABC" in done.stdout
    assert done.stdout.count("Key Compromise") == 1
    assert count_entries((tmp_path / "crl.der").read_bytes()) == 2
