"""A certificate for 127.0.0.1 under a root of its own."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def tls_files(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of the root, and a server's TLS that shows a certificate under it."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")])
    now = datetime.now(UTC)

    def certify(public: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        return (
            x509.CertificateBuilder(issuer, issuer if ca else x509.Name([]), public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=not ca,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
                critical=False,
            )
            .sign(root_key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    roots, server = directory / "roots.pem", directory / "server.pem"
    roots.write_bytes(certify(root_key.public_key(), ca=True))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(certify(key.public_key(), ca=False) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    return roots, context
