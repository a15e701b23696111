"""Bootstraps for tests of them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sds.bootstrap_options import BootstrapOptions, parse_options
from sds.bootstrap_values import Bootstrap
from tests.fakes import FakeClock

DIRECTORY = Path("/etc/mesh")


ORDERS = "spiffe://example.org/ns/shop/sa/orders"


PLAIN = BootstrapOptions(
    server="meshca.meshca.svc:8443",
    token_file=Path("/var/run/secrets/meshca/token"),
    trust_bundle=Path("roots.pem"),
    trust_domain="example.org",
    inbound="15006",
    app="127.0.0.1:8080",
)


def parse(**changes: Any) -> Bootstrap:
    return parse_options(replace(PLAIN, **changes), directory=DIRECTORY)


def root_certificate(*uris: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = FakeClock().now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    builder = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
