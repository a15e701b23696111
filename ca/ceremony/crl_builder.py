"""The revocation list of a root, built from what it must say: it has few entries."""

from cryptography import x509

from ca.ca_certificate import authority_key_identifier
from ca.ceremony import crl_lint


def list_builder(expected: crl_lint.Expectation) -> x509.CertificateRevocationListBuilder:
    """Return what signs the list that `expected` describes."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(expected.issuer.subject)
        .last_update(expected.this_update)
        .next_update(expected.next_update)
        .add_extension(authority_key_identifier(expected.issuer), critical=False)
        .add_extension(x509.CRLNumber(expected.number), critical=False)
    )
    for serial, revocation in sorted(expected.revoked.items()):
        builder = builder.add_revoked_certificate(_entry(serial, revocation))
    return builder


def _entry(serial: int, revocation: crl_lint.Revocation) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revocation.time)
    if revocation.reason is not None:
        entry = entry.add_extension(x509.CRLReason(revocation.reason), critical=False)
    return entry.build()
