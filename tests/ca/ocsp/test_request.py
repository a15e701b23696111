"""What a request asks, and what is refused as none."""

import secrets
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from hypothesis import given
from hypothesis import strategies as st

from ca import der
from ca.ocsp.request import MAXIMUM_BYTES, CertId, issuer_ids, parse_request
from meshca.errors import RequestRefused
from tests.builders import KEY_KINDS, make_authority, make_pki
from tests.ca.ocsp.world import request

AUTHORITY = make_authority()
SERIAL = 0x8F00_0000_0000_0000_0000_0000_0000_0001
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
NONCE = "06092b0601050507300102"


def cert_id(serial: int = SERIAL, algorithm: str = "sha1") -> CertId:
    (found,) = [each for each in issuer_ids(AUTHORITY.certificate) if each[0] == algorithm]
    return CertId(*found, serial)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_takes_a_certificate_by_either_hash(algorithm: str) -> None:
    asked = parse_request(request(AUTHORITY, SERIAL, algorithm=algorithm))

    assert asked.singles == (cert_id(algorithm=algorithm),)
    assert asked.nonce is None


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])  # noqa: S303  # what clients send
def test_an_issuer_is_named_as_the_library_names_it(
    kind: str, algorithm: hashes.HashAlgorithm
) -> None:
    pki = make_pki(kind)
    built = ocsp.OCSPRequestBuilder().add_certificate(pki.intermediate, pki.root, algorithm)
    (asked,) = parse_request(built.build().public_bytes(Encoding.DER)).singles

    assert asked.issuer in issuer_ids(pki.root)
    assert asked.serial == pki.intermediate.serial_number


def test_a_hash_that_we_do_not_answer_for_names_no_issuer() -> None:
    (asked,) = parse_request(request(AUTHORITY, SERIAL, algorithm="sha512")).singles

    assert asked.issuer not in issuer_ids(AUTHORITY.certificate)


@pytest.mark.parametrize("length", [1, 8, 16, 32])
def test_takes_a_nonce_of_up_to_32_octets(length: int) -> None:
    nonce = secrets.token_bytes(length)

    assert parse_request(request(AUTHORITY, SERIAL, nonce=nonce)).nonce == nonce


def test_takes_sixteen_certificates_and_their_nonce() -> None:
    serials = tuple(range(1, 17))
    asked = parse_request(request(AUTHORITY, *serials, nonce=b"once"))

    assert tuple(each.serial for each in asked.singles) == serials
    assert asked.nonce == b"once"


def test_a_signature_and_a_name_are_not_looked_at() -> None:
    (tbs,) = der.items(request(AUTHORITY, SERIAL))
    name = der.encode(0xA1, der.encode(0xA4, x509.Name([]).public_bytes()))
    named = der.encode(0x30, name, *der.items(tbs))
    algorithm = AUTHORITY.signature_algorithm
    signature = der.encode(0xA0, der.encode(0x30, algorithm, der.bit_string(bytes(64))))

    assert parse_request(der.encode(0x30, named, signature)).singles == (cert_id(),)


def test_an_extension_that_is_not_critical_is_passed_over() -> None:
    known = x509.OCSPAcceptableResponses([AuthorityInformationAccessOID.OCSP])
    asked = request(AUTHORITY, SERIAL, extensions=[(known, False), (UNKNOWN, False)])

    assert parse_request(asked).singles == (cert_id(),)


def listed(*parts: bytes) -> bytes:
    return der.encode(0x30, der.encode(0x30, der.encode(0x30, *parts)))


def with_nonce(value: str) -> bytes:
    (tbs,) = der.items(request(AUTHORITY, SERIAL))
    one = der.encode(0x30, bytes.fromhex(NONCE), bytes.fromhex(value))
    return der.encode(0x30, der.encode(0x30, *der.items(tbs), der.encode(0xA2, one)))


def with_serial(octets: bytes) -> bytes:
    """Return a request about the serial that `octets` are as an INTEGER."""
    (one,) = der.items(der.items(der.items(request(AUTHORITY, SERIAL))[0])[0])
    *issuer, _ = der.items(der.items(one)[0])
    return listed(der.encode(0x30, der.encode(0x30, *issuer, der.encode(0x02, octets))))


MALFORMED = {
    "nothing": b"",
    "no DER": b"GET / HTTP/1.1",
    "cut off": request(AUTHORITY, SERIAL)[:-1],
    "more behind it": request(AUTHORITY, SERIAL) + b"\0",
    "no certificate": listed(),
    "seventeen certificates": request(AUTHORITY, *range(1, 18)),
    "a nonce of 33 octets": request(AUTHORITY, SERIAL, nonce=bytes(33)),
    "a nonce of none": request(AUTHORITY, SERIAL, nonce=b""),
    "a nonce that is no octet string": with_nonce("0402ffff"),
    "two nonces": der.encode(
        0x30,
        der.encode(
            0x30,
            *der.items(der.items(request(AUTHORITY, SERIAL))[0]),
            der.encode(0xA2, der.encode(0x30, *[bytes.fromhex(f"300f{NONCE}04020400")] * 2)),
        ),
    ),
    "a critical extension": request(AUTHORITY, SERIAL, extensions=[(UNKNOWN, True)]),
    "the serial 0": with_serial(bytes(1)),
    "a negative serial": with_serial(b"\xfe" * 17),
    "a serial of 160 bits": with_serial(b"\0" + b"\xff" * 20),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses(octets: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_request(octets)
    assert refused.value.reason == "malformed"


def test_refuses_more_than_four_kib_before_it_is_parsed() -> None:
    filler = x509.UnrecognizedExtension(UNKNOWN.oid, bytes(MAXIMUM_BYTES))

    with pytest.raises(RequestRefused, match="larger than 4096 bytes"):
        parse_request(request(AUTHORITY, SERIAL, extensions=[(filler, False)]))


def test_takes_the_longest_serial() -> None:
    assert parse_request(with_serial(b"\x7f" + b"\xff" * 19)).singles[0].serial == 2**159 - 1


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_any_octets(octets: bytes) -> None:
    with pytest.raises(RequestRefused):
        parse_request(octets)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_nothing_but_a_refusal_comes_of_any_change(at: int, value: int) -> None:
    good = request(AUTHORITY, 1, SERIAL, nonce=b"n" * 16)
    at %= len(good)
    changed = good[:at] + bytes([value]) + good[at + 1 :]
    with suppress(RequestRefused):
        parse_request(changed)
