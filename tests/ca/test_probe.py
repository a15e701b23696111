"""An authority that cannot make one good certificate may not make any other."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.authority import Authority
from ca.keys import PrivateKeySigner
from ca.upstream.probe import check_by_probe
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, Pki, make_key, make_pki

PKI = make_pki()


def check(authority: Authority) -> None:
    check_by_probe(authority, trust_domain=TRUST_DOMAIN, now=NOW)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_a_good_authority_passes(kind: str) -> None:
    check(make_pki(kind).authority())


def test_a_signer_with_another_key_is_found_out() -> None:
    with pytest.raises(AuthorityUnavailable, match="does not verify"):
        check(PKI.authority(PrivateKeySigner(make_key("p256", 77))))


def test_a_chain_that_verifiers_reject_is_found_out() -> None:
    constrained = with_name_constraints(PKI)

    with pytest.raises(AuthorityUnavailable, match="a probe that it signed does not verify"):
        check(Authority((constrained,), PKI.root, PrivateKeySigner(PKI.intermediate_key)))


def with_name_constraints(pki: Pki) -> x509.Certificate:
    """Return the intermediate with a constraint on URIs, which some verifiers cannot read."""
    made = pki.intermediate
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.subject)
        .issuer_name(made.issuer)
        .public_key(made.public_key())
        .serial_number(made.serial_number)
        .not_valid_before(made.not_valid_before_utc)
        .not_valid_after(made.not_valid_after_utc)
    )
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    uris = x509.NameConstraints([x509.UniformResourceIdentifier("example.org")], None)
    return builder.add_extension(uris, critical=True).sign(pki.root_key, hashes.SHA256())
