"""Providers over TLS: asked when their certificate is the one that is expected, else no."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from authz.providers import METHOD, Providers
from meshca.clock import SystemClock
from meshca.settings_policy import Provider

NAME = "sso.test"


def self_signed() -> tuple[bytes, bytes]:
    """Return the key and certificate of a provider, in PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), SystemClock().now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.PEM)


async def answer(tmp_path: Path, *, trusts_it: bool, name: str | None) -> bool:
    """Return whether a provider behind TLS, which allows all, was believed."""
    key, certificate = self_signed()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(certificate if trusts_it else self_signed()[1])

    async def check(_request: bytes, _context: object) -> bytes:
        return bytes(CheckResponse().SerializeToString())

    server = grpc.aio.server()
    service, _, method = METHOD[1:].rpartition("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(check)
    generic = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((generic,))
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    settings = Provider.model_validate(
        {"address": f"127.0.0.1:{port}", "ca_file": str(trusted), "server_name": name}
    )
    providers = Providers({"sso": settings})
    try:
        answers = await providers.ask(("sso",), CheckRequest().SerializeToString())
        return answers["sso"].allowed
    finally:
        await providers.close()
        await server.stop(0)


@pytest.mark.parametrize(
    ("trusts_it", "name", "believed"),
    [(True, NAME, True), (False, NAME, False), (True, "other.test", False), (True, None, False)],
    ids=["expected", "another authority", "another name", "the address is no name of it"],
)
def test_only_the_expected_certificate_is_believed(
    tmp_path: Path, *, trusts_it: bool, name: str | None, believed: bool
) -> None:
    assert asyncio.run(answer(tmp_path, trusts_it=trusts_it, name=name)) is believed


def test_nobody_is_asked_where_nobody_is_named() -> None:
    assert asyncio.run(Providers().ask((), b"")) == {}
