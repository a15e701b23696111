"""A certificate authority of the tests, which certifies whatever URIs it is told."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])


@dataclass
class Authority:
    """A certificate authority of the tests, which certifies whatever URIs it is told."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        certificate = (
            self._builder(self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .subject_name(_AUTHORITY)
            .sign(self.key, hashes.SHA256())
        )
        self.root.write_bytes(certificate.public_bytes(Encoding.PEM))

    @property
    def root(self) -> Path:
        """Return the file of the root certificate."""
        return self.directory / "root.pem"

    def certify(self, name: str, *uris: str) -> Path:
        """Return a file with a key and a certificate for `uris`."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = self._builder(key).subject_name(x509.Name([]))
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return path

    def _builder(self, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(_AUTHORITY)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
