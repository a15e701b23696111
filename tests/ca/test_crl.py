"""The empty CRL, as `cryptography` reads it."""

from datetime import timedelta

from cryptography import x509

from ca.crl import empty_crl
from tests.builders import NOW, make_pki


def test_the_empty_crl_is_signed_current_and_the_authoritys() -> None:
    authority = make_pki().authority()
    crl = x509.load_der_x509_crl(empty_crl(authority, now=NOW))
    key = authority.certificate.public_key()
    assert crl.is_signature_valid(key)  # type: ignore[arg-type]  # an ECDSA key
    assert crl.issuer == authority.certificate.subject
    assert len(crl) == 0
    assert crl.last_update_utc <= NOW
    assert crl.next_update_utc is not None
    assert NOW + timedelta(hours=1) < crl.next_update_utc <= authority.not_after
    aki = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == authority.subject_key_id
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > 0
