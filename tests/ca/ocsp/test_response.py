"""The template of responses: to the byte what cryptography's builder writes."""

from datetime import UTC, datetime, timedelta
from hashlib import sha1

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from ca import der
from ca.keys import public_key_der
from ca.ocsp.request import CertId, issuer_ids
from ca.ocsp.response import Failure, Revoked, Status, assemble, response_data
from ca.revocation.reason import Reason
from tests.builders import NOW, make_pki

PKI = make_pki()
KEY_HASH = sha1(  # noqa: S324  # RFC 6960 4.2.1
    der.public_key_bits(public_key_der(PKI.intermediate.public_key()))  # type: ignore[arg-type]  # EC
).digest()
SHA1, SHA256 = (CertId(*each, 0) for each in issuer_ids(PKI.root))
HOUR = timedelta(hours=1)
REASONS = {
    Reason.keyCompromise.value: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    Reason.affiliationChanged.value: x509.ReasonFlags.affiliation_changed,
    Reason.superseded.value: x509.ReasonFlags.superseded,
    Reason.cessationOfOperation.value: x509.ReasonFlags.cessation_of_operation,
    Reason.certificateHold.value: x509.ReasonFlags.certificate_hold,
    Reason.privilegeWithdrawn.value: x509.ReasonFlags.privilege_withdrawn,
    Reason.unspecified.value: None,
}


def by_the_library(status: Status, nonce: bytes | None) -> ocsp.OCSPResponse:
    """Return the response that OCSPResponseBuilder makes, produced now."""
    asked = status.cert_id
    algorithm = hashes.SHA1() if asked.algorithm == "sha1" else hashes.SHA256()  # noqa: S303  # what clients send
    said = {
        "good": ocsp.OCSPCertStatus.GOOD,
        "revoked": ocsp.OCSPCertStatus.REVOKED,
        "unknown": ocsp.OCSPCertStatus.UNKNOWN,
    }[status.name]
    revoked = status.revoked
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            asked.name_hash,
            asked.key_hash,
            asked.serial,
            algorithm,
            said,
            status.this_update,
            status.next_update,
            revoked and revoked.at,
            REASONS[revoked.reason] if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, PKI.intermediate)
        .certificates([PKI.intermediate])
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(PKI.intermediate_key, hashes.SHA256())


def check_same(status: Status, nonce: bytes | None) -> None:
    library = by_the_library(status, nonce)
    data = response_data(KEY_HASH, library.produced_at_utc, [status], nonce)
    ours = assemble(
        data,
        PKI.authority().signature_algorithm,
        library.signature,
        PKI.intermediate.public_bytes(Encoding.DER),
    )
    assert data == library.tbs_response_bytes
    assert ours == library.public_bytes(Encoding.DER)


def status(cert_id: CertId = SHA1, **changes: object) -> Status:
    values: dict[str, object] = {
        "cert_id": cert_id if cert_id.serial else cert_id._replace(serial=2**127 + 1),
        "known": True,
        "revoked": None,
        "this_update": NOW,
        "next_update": NOW + HOUR,
    }
    return Status(**{**values, **changes})  # type: ignore[arg-type]  # a builder for tests


@pytest.mark.parametrize("cert_id", [SHA1, SHA256], ids=["sha1", "sha256"])
@pytest.mark.parametrize("nonce", [None, b"n", b"n" * 32], ids=["none", "one", "long"])
def test_writes_what_the_library_writes(cert_id: CertId, nonce: bytes | None) -> None:
    check_same(status(cert_id), nonce)
    check_same(status(cert_id, known=False), nonce)


@pytest.mark.parametrize("reason", REASONS)
def test_writes_what_the_library_writes_for_every_reason(reason: int) -> None:
    check_same(status(revoked=Revoked(NOW - HOUR, reason)), None)


def test_every_reason_that_we_have_is_written() -> None:
    assert {reason.value for reason in Reason} <= set(REASONS)


@settings(deadline=None)
@given(
    st.integers(1, 2**159 - 1),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  # made aware below
    st.none() | st.binary(min_size=1, max_size=32),
)
def test_writes_what_the_library_writes_for_any_serial_time_and_nonce(
    serial: int, at: datetime, nonce: bytes | None
) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    cert_id = SHA256._replace(serial=serial)
    check_same(status(cert_id=cert_id, this_update=at, next_update=at + HOUR), nonce)


@pytest.mark.parametrize(
    ("failure", "theirs"),
    [
        (Failure.malformed, ocsp.OCSPResponseStatus.MALFORMED_REQUEST),
        (Failure.try_later, ocsp.OCSPResponseStatus.TRY_LATER),
        (Failure.unauthorized, ocsp.OCSPResponseStatus.UNAUTHORIZED),
    ],
)
def test_a_failure_is_the_librarys(failure: Failure, theirs: ocsp.OCSPResponseStatus) -> None:
    built = ocsp.OCSPResponseBuilder.build_unsuccessful(theirs)

    assert failure.der == built.public_bytes(Encoding.DER)


def test_several_certificates_are_answered_in_their_order() -> None:
    statuses = [status(cert_id=SHA1._replace(serial=n), known=n != 2) for n in (3, 2, 1)]
    data = response_data(KEY_HASH, NOW, statuses, b"n")
    response = ocsp.load_der_ocsp_response(assemble(data, *_signature()))

    assert [each.serial_number for each in response.responses] == [3, 2, 1]
    assert [each.certificate_status.name for each in response.responses] == [
        "GOOD",
        "UNKNOWN",
        "GOOD",
    ]


def _signature() -> tuple[bytes, bytes, bytes]:
    certificate = PKI.intermediate.public_bytes(Encoding.DER)
    return PKI.authority().signature_algorithm, bytes(64), certificate
