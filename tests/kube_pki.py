"""The certificates a throwaway kube-apiserver needs: a CA, its own, and an administrator's."""

import ipaddress
import os
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshca.clock import SystemClock
from tests.key_usage import key_usage

_LIFETIME = timedelta(days=1)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write `key` as SEC1 PEM, only for its owner: kube-apiserver reads no other token key."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def write_certificates(directory: Path) -> None:
    """Write ca, server and admin certificates (`.pem`) and keys (`.key`) into `directory`."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("meshca test cluster")
    ca = _builder(ca_name, ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_usage(certificates=True), critical=True)
    _write(directory, "ca", ca.sign(ca_key, hashes.SHA256()), ca_key)
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for name, subject, purpose in (
        ("server", _name("kube-apiserver"), ExtendedKeyUsageOID.SERVER_AUTH),
        ("admin", _name("admin", organization="system:masters"), ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _builder(subject, ca_name, key.public_key())
        leaf = leaf.add_extension(local, critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        leaf = leaf.add_extension(_usage(certificates=False), critical=True)
        leaf = leaf.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        _write(directory, name, leaf.sign(ca_key, hashes.SHA256()), key)


def _name(common_name: str, *, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = SystemClock().now()  # a real server checks these against real time
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    if certificates:
        return key_usage(key_cert_sign=True, crl_sign=True)
    return key_usage(digital_signature=True)


def _write(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    write_key(directory / f"{name}.key", key)
