"""Requests that we write say what the library would write, for keys of every kind."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.csr import certificate_request
from ca.keys import PrivateKeySigner, check_public_key
from ca.request import proven_key
from meshca.errors import AuthorityUnavailable
from tests.builders import KEY_KINDS, TRUST_DOMAIN, csr_builder, make_key


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_request_is_what_the_library_writes(kind: str) -> None:
    key = make_key(kind, 700)
    public = check_public_key(key.public_key())
    made = certificate_request(PrivateKeySigner(key), public, trust_domain=TRUST_DOMAIN)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{TRUST_DOMAIN} intermediate")])
    builder = csr_builder(uris=[f"spiffe://{TRUST_DOMAIN}"], subject=name)
    theirs = builder.sign(key, made.signature_hash_algorithm)  # type: ignore[arg-type]  # it has one
    assert made.tbs_certrequest_bytes == theirs.tbs_certrequest_bytes
    assert proven_key(made.public_bytes(Encoding.PEM)) == public


def test_a_long_trust_domain_gets_the_name_that_fits() -> None:
    key = make_key()
    public = check_public_key(key.public_key())
    made = certificate_request(PrivateKeySigner(key), public, trust_domain="a" * 100)
    (name,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "a" * 64


def test_a_signer_with_another_key_is_found_out() -> None:
    public = check_public_key(make_key("p256", 701).public_key())
    with pytest.raises(AuthorityUnavailable, match="not the one in it"):
        certificate_request(PrivateKeySigner(make_key()), public, trust_domain=TRUST_DOMAIN)
