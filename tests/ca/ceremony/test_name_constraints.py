"""Name constraints of a root: off by default, and the warning about them is true."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.peer import verify_peer
from meshca.errors import ProofRefused
from tests.builders import NOW, TRUST_DOMAIN, make_key
from tests.ca.ceremony.plans import (
    INTERMEDIATE,
    ROOT,
    Table,
    table_with_root,
)
from tests.key_usage import key_usage
from tests.real_parts import require

CONSTRAINED = ROOT + "name_constraints: true\n"


def test_name_constraints_are_off_unless_asked_for_and_then_warn(tmp_path: Path) -> None:
    table = Table(tmp_path)
    report = table.hold(CONSTRAINED)
    found = table.certificate("root.pem").extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    (warning,) = report.warnings
    for who in ("OpenSSL", "Go", "Python's cryptography refuses", "rustls", "renew"):
        assert who in warning


def test_the_warning_is_true_of_cryptography(tmp_path: Path) -> None:
    table = table_with_root(tmp_path, CONSTRAINED)
    table.request()
    table.hold(INTERMEDIATE)
    with pytest.raises(ProofRefused, match="unsupported name constraint"):
        verify_peer(
            [leaf(table), table.certificate("chain.pem")],
            roots=[table.certificate("root.pem")],
            trust_domain=TRUST_DOMAIN,
            now=NOW,
        )


@pytest.mark.parametrize(
    ("trust_domain", "said"),
    [("example.org", "leaf.pem: OK"), ("example.com", "permitted subtree violation")],
)
def test_the_warning_is_true_of_openssl(trust_domain: str, said: str, tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    table = table_with_root(tmp_path, CONSTRAINED)
    table.request()
    table.hold(INTERMEDIATE)
    pem = leaf(table, trust_domain).public_bytes(Encoding.PEM)
    (tmp_path / "leaf.pem").write_bytes(pem)
    command = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "chain.pem"]
    command += ["-attime", str(int(NOW.timestamp()) + 60), "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def leaf(table: Table, trust_domain: str = TRUST_DOMAIN) -> x509.Certificate:
    """Return a leaf under the table's intermediate, as a peer shows it."""
    key = make_key("p256", 604)
    issuer = table.certificate("chain.pem")
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/ns/shop/sa/orders")
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
        .sign(make_key("p256", 600), hashes.SHA256())
    )
