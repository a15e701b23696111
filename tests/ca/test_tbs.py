"""The DER template: to the byte what cryptography's CertificateBuilder writes."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ca import tbs
from ca.authority import Authority
from ca.keys import subject_key_id
from ca.tbs import LeafFields
from tests.builders import KEY_KINDS, NOW, Pki, make_pki, make_request
from tests.key_usage import key_usage

PKIS = {kind: make_pki(kind) for kind in KEY_KINDS}
CRL, OCSP, ISSUER = (f"http://ca.example.org/{p}" for p in ("crl/a.crl", "ocsp", "ca/a.der"))
SERIAL = 0x8F00_0000_0000_0000_0000_0000_0000_0001


def make_fields(authority: Authority, kind: str = "p256", **changes: object) -> LeafFields:
    request = make_request(kind)
    values: dict[str, object] = {
        "serial": SERIAL,
        "signature_algorithm": authority.signature_algorithm,
        "issuer": authority.subject_der,
        "not_before": NOW,
        "not_after": NOW + timedelta(hours=1),
        "public_key": request.public_key,
        "is_ec": request.is_ec,
        "subject_key_id": subject_key_id(request.public_key),
        "authority_key_id": authority.subject_key_id,
        "uri": "spiffe://example.org/ns/shop/sa/orders",
    }
    return LeafFields(**{**values, **changes})  # type: ignore[arg-type]  # a builder for tests


def by_the_library(fields: LeafFields, pki: Pki) -> bytes:
    """Return the TBSCertificate as CertificateBuilder writes it."""
    key = load_der_public_key(fields.public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    uri = x509.UniformResourceIdentifier(fields.uri)
    names = [x509.DNSName(name) for name in fields.dns_names]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .serial_number(fields.serial)
        .issuer_name(pki.intermediate.subject)
        .subject_name(x509.Name([]))
        .not_valid_before(fields.not_before)
        .not_valid_after(fields.not_after)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ec=fields.is_ec), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(fields.subject_key_id), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri, *names]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier(fields.authority_key_id, None, None), critical=False
        )
    )
    if fields.crl_url is not None:
        crl = x509.UniformResourceIdentifier(fields.crl_url)
        point = x509.DistributionPoint([crl], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    access = [
        x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
        for method, url in (
            (AuthorityInformationAccessOID.OCSP, fields.ocsp_url),
            (AuthorityInformationAccessOID.CA_ISSUERS, fields.issuer_url),
        )
        if url is not None
    ]
    if access:
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    wide = isinstance(pki.intermediate_key, ec.EllipticCurvePrivateKey) and (
        pki.intermediate_key.curve.name == "secp384r1"
    )
    digest = hashes.SHA384() if wide else hashes.SHA256()
    return builder.sign(pki.intermediate_key, digest).tbs_certificate_bytes


def _key_usage(*, is_ec: bool) -> x509.KeyUsage:
    return key_usage(digital_signature=True, key_encipherment=not is_ec, key_agreement=is_ec)


@pytest.mark.parametrize(("issuer", "leaf"), list(product(KEY_KINDS, KEY_KINDS)))
def test_writes_what_the_library_writes_for_every_pair_of_keys(issuer: str, leaf: str) -> None:
    pki = PKIS[issuer]
    fields = make_fields(pki.authority(), leaf)
    assert tbs.encode(fields) == by_the_library(fields, pki)


@pytest.mark.parametrize("dns_names", [(), ("localhost",), ("a.example.org", "*.b.example.org")])
@pytest.mark.parametrize(
    ("crl_url", "ocsp_url", "issuer_url"),
    list(product((None, CRL), (None, OCSP), (None, ISSUER))),
)
def test_writes_what_the_library_writes_with_names_and_urls(
    dns_names: tuple[str, ...], crl_url: str | None, ocsp_url: str | None, issuer_url: str | None
) -> None:
    pki = PKIS["p256"]
    fields = make_fields(
        pki.authority(),
        dns_names=dns_names,
        crl_url=crl_url,
        ocsp_url=ocsp_url,
        issuer_url=issuer_url,
    )
    assert tbs.encode(fields) == by_the_library(fields, pki)


@pytest.mark.parametrize(
    ("not_before", "not_after"),
    [
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)),
        (datetime(2049, 12, 31, tzinfo=UTC), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),
        (datetime(2050, 1, 1, tzinfo=UTC), datetime(2099, 6, 1, 12, 0, 1, tzinfo=UTC)),
    ],
)
def test_writes_dates_as_the_library_before_and_after_2050(
    not_before: datetime, not_after: datetime
) -> None:
    pki = PKIS["p256"]
    fields = make_fields(pki.authority(), not_before=not_before, not_after=not_after)
    assert tbs.encode(fields) == by_the_library(fields, pki)


@settings(deadline=None)
@given(
    serial=st.integers(1, 2**159 - 1),
    path=st.from_regex(r"(/[a-zA-Z0-9_.-]{1,60}){1,8}", fullmatch=True),
    dns_names=st.lists(st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20}){0,4}", fullmatch=True)),
    begins=st.datetimes(datetime(1970, 1, 1), datetime(2120, 1, 1)),  # noqa: DTZ001  # made aware below
    lasts=st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
)
def test_writes_what_the_library_writes_for_any_serial_identity_and_date(
    serial: int, path: str, dns_names: list[str], begins: datetime, lasts: timedelta
) -> None:
    pki = PKIS["p256"]
    begins = begins.replace(microsecond=0, tzinfo=UTC)
    fields = make_fields(
        pki.authority(),
        serial=serial,
        uri=f"spiffe://example.org{path}",
        dns_names=tuple(dict.fromkeys(dns_names)),
        not_before=begins,
        not_after=(begins + lasts).replace(microsecond=0),
    )
    assert tbs.encode(fields) == by_the_library(fields, pki)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_the_assembled_certificate_parses_and_verifies(kind: str) -> None:
    authority = PKIS[kind].authority()
    encoded = tbs.encode(make_fields(authority))
    signature = authority.signer.sign(encoded)
    certificate = x509.load_der_x509_certificate(
        tbs.assemble(encoded, authority.signature_algorithm, signature)
    )
    assert certificate.tbs_certificate_bytes == encoded
    certificate.verify_directly_issued_by(authority.certificate)
