"""Conformance of what we issue, named after the ids of the SPIFFE checklist; and openssl's view.

X is X509-SVID.md, ID is SPIFFE-ID.md. Each certificate here went through prepare, lint and sign.
"""
# ruff: noqa: N802  # conformance tests are named after the ids of the checklist

import shutil
import subprocess
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from ca import issuer
from ca.issuer import Svid
from tests.builders import KEY_KINDS, NOW, make_caller, make_pki, make_profile, make_request
from tests.real_parts import require

PKIS = {kind: make_pki(kind) for kind in KEY_KINDS}
PAIRS = list(product(KEY_KINDS, KEY_KINDS))
EVERY = pytest.mark.parametrize(
    "svid", PAIRS, indirect=True, ids=["-".join(pair) for pair in PAIRS]
)
CA_CERTIFICATES = [c for pki in PKIS.values() for c in (pki.root, pki.intermediate)]


def make_svid(issuer_kind: str, kind: str, *dns_names: str) -> Svid:
    prepared = issuer.prepare(
        make_caller(),
        make_request(kind),
        authority=PKIS[issuer_kind].authority(),
        profile=make_profile(public_url="http://ca.example.org"),
        now=NOW,
        dns_names=dns_names,
    )
    signed = issuer.sign(prepared)
    return issuer.finish(prepared, issuer.compare(prepared, signed), signed)


@pytest.fixture
def svid(request: pytest.FixtureRequest) -> Svid:
    """A leaf under an issuer, the kinds of both keys given."""
    issuer_kind, kind = request.param
    return make_svid(issuer_kind, kind)


def san(certificate: x509.Certificate) -> x509.Extension[x509.SubjectAlternativeName]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def uris(certificate: x509.Certificate) -> list[str]:
    return san(certificate).value.get_values_for_type(x509.UniformResourceIdentifier)


def usage(certificate: x509.Certificate) -> x509.Extension[x509.KeyUsage]:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage)


def constraints(certificate: x509.Certificate) -> x509.Extension[x509.BasicConstraints]:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints)


def test_ID_17_and_X_5_the_signing_authority_carries_an_svid_itself() -> None:
    for certificate in CA_CERTIFICATES:
        assert len(uris(certificate)) == 1


def test_ID_18_and_X_7_the_authoritys_id_lies_in_the_trust_domain_of_its_leaves() -> None:
    for certificate in CA_CERTIFICATES:
        assert uris(certificate)[0].startswith("spiffe://example.org")


def test_ID_19_and_X_6_the_authoritys_id_has_no_path() -> None:
    for certificate in CA_CERTIFICATES:
        assert uris(certificate) == ["spiffe://example.org"]


@EVERY
def test_ID_20_id_and_key_are_inside_the_signed_payload(svid: Svid) -> None:
    leaf = svid.chain[0]
    leaf.verify_directly_issued_by(svid.chain[1])
    assert b"spiffe://example.org/ns/shop/sa/orders" in leaf.tbs_certificate_bytes


@EVERY
def test_X_1_exactly_one_uri_san(svid: Svid) -> None:
    assert uris(svid.chain[0]) == ["spiffe://example.org/ns/shop/sa/orders"]


def test_X_1_exactly_one_uri_san_beside_dns_names() -> None:
    leaf = make_svid("p256", "p256", "localhost").chain[0]
    assert len(uris(leaf)) == 1
    assert san(leaf).value.get_values_for_type(x509.DNSName) == ["localhost"]


@EVERY
def test_X_3_the_leafs_id_has_a_path(svid: Svid) -> None:
    assert uris(svid.chain[0])[0].removeprefix("spiffe://example.org").startswith("/ns")


@EVERY
def test_X_4_the_san_is_critical_as_the_subject_is_empty(svid: Svid) -> None:
    assert list(svid.chain[0].subject) == []
    assert san(svid.chain[0]).critical


def test_X_8_a_signing_certificate_cannot_authenticate() -> None:
    for certificate in CA_CERTIFICATES:
        assert not usage(certificate).value.digital_signature
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


@EVERY
def test_X_9_a_leaf_says_ca_false(svid: Svid) -> None:
    assert not constraints(svid.chain[0]).value.ca
    assert constraints(svid.chain[0]).critical


def test_X_9_a_ca_says_ca_true_and_how_deep() -> None:
    for pki in PKIS.values():
        assert constraints(pki.root).value == x509.BasicConstraints(ca=True, path_length=2)
        assert constraints(pki.intermediate).value == x509.BasicConstraints(ca=True, path_length=0)


@EVERY
def test_X_11_key_usage_is_present_and_critical(svid: Svid) -> None:
    assert all(usage(certificate).critical for certificate in (*svid.chain, *CA_CERTIFICATES))


def test_X_12_a_ca_signs_certificates_and_crls() -> None:
    for certificate in CA_CERTIFICATES:
        assert usage(certificate).value.key_cert_sign
        assert usage(certificate).value.crl_sign


@EVERY
def test_X_13_a_leaf_signs(svid: Svid) -> None:
    assert usage(svid.chain[0]).value.digital_signature


@EVERY
def test_X_14_a_leaf_signs_neither_certificates_nor_crls(svid: Svid) -> None:
    assert not usage(svid.chain[0]).value.key_cert_sign
    assert not usage(svid.chain[0]).value.crl_sign


@EVERY
def test_X_15_and_X_16_extended_key_usage_has_both_ends(svid: Svid) -> None:
    value = svid.chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@EVERY
def test_X_17_a_verifier_of_rfc_5280_paths_accepts_the_chain(svid: Svid) -> None:
    root = next(pki.root for pki in PKIS.values() if pki.intermediate == svid.chain[1])
    verifier = PolicyBuilder().store(Store([root])).time(NOW).build_client_verifier()
    verified = verifier.verify(svid.chain[0], list(svid.chain[1:]))
    assert len(verified.chain) == 3
    assert [name.value for name in verified.subjects or []] == uris(svid.chain[0])


def openssl(*arguments: str | Path) -> str:
    program = shutil.which("openssl")
    require(program is not None, "openssl", "apt-get install openssl")
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(directory: Path, svid: Svid) -> tuple[Path, Path, Path]:
    """Return the files of leaf, intermediate and root."""
    root = next(pki.root for pki in PKIS.values() if pki.intermediate == svid.chain[1])
    files = (directory / "leaf.pem", directory / "chain.pem", directory / "root.pem")
    for file, certificate in zip(files, (*svid.chain, root), strict=True):
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


@EVERY
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_verifies_the_chain_strictly(tmp_path: Path, svid: Svid, purpose: str) -> None:
    leaf, chain, root = written(tmp_path, svid)
    at = str(int(NOW.timestamp()))
    strict = ["-x509_strict", "-purpose", purpose, "-attime", at]
    said = openssl("verify", *strict, "-CAfile", root, "-untrusted", chain, leaf)
    assert said.strip() == f"{leaf}: OK"


@pytest.mark.parametrize("after", [timedelta(hours=1, seconds=1), timedelta(seconds=-61)])
def test_openssl_refuses_the_leaf_outside_of_its_life(tmp_path: Path, after: timedelta) -> None:
    leaf, chain, root = written(tmp_path, make_svid("p256", "p256"))
    at = str(int((NOW + after).timestamp()))
    with pytest.raises(AssertionError, match=r"certificate has expired|is not yet valid"):
        openssl("verify", "-attime", at, "-CAfile", root, "-untrusted", chain, leaf)


def test_openssl_prints_the_leaf(tmp_path: Path) -> None:
    leaf, _, _ = written(tmp_path, make_svid("p256", "p256"))
    text = " ".join(openssl("x509", "-in", leaf, "-noout", "-text").split())
    for said in (
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256 Issuer: O = meshca",
        "Not Before: Nov 1 11:59:00 2026 GMT Not After : Nov 1 13:00:00 2026 GMT Subject: Subject",
        "X509v3 Basic Constraints: critical CA:FALSE",
        "X509v3 Key Usage: critical Digital Signature, Key Agreement",
        "X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication",
        "Alternative Name: critical URI:spiffe://example.org/ns/shop/sa/orders",
        "CRL Distribution Points: Full Name: URI:http://ca.example.org/crl/",
        "OCSP - URI:http://ca.example.org/ocsp CA Issuers - URI:http://ca.example.org/ca/",
    ):
        assert said in text
