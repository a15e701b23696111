"""Ceremonies in a directory of the test's own: plans as a person writes them, held at `NOW`."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.hold import hold
from ca.ceremony.plan import load_plan
from ca.ceremony.report import Report
from ca.csr import certificate_request
from ca.keys import PrivateKeySigner, check_public_key, private_key_pem
from ca.new_files import write_new
from meshca.errors import InvalidDocument
from tests.builders import NOW, TRUST_DOMAIN, make_key

PASSPHRASE = b"correct horse battery staple"
ROOT = """\
ceremony: root
trust_domain: example.org
subject: {organization: Example, common_name: example.org root R1, country: CH}
validity: {not_before: 2026-11-01T12:00:00Z, not_after: 2036-11-01T12:00:00Z}
key_type: p384
path_length: 1
outputs: {key: root.key, certificate: root.pem}
"""
INTERMEDIATE = """\
ceremony: intermediate
trust_domain: example.org
issuer: {certificate: root.pem, key: root.key}
certificates:
  - csr: intermediate.csr
    subject: {organization: Example, common_name: example.org intermediate 2026-11}
    validity: {lifetime: 90d}
    output: chain.pem
"""
CRL = """\
ceremony: crl
issuer: {certificate: root.pem, key: root.key}
number: 1
validity: {lifetime: 180d}
revoked: []
output: root.crl
"""


@dataclass(frozen=True)
class Table:
    """The table that ceremonies are held at: a directory with their files."""

    directory: Path

    def write(self, text: str, name: str = "plan.yaml") -> Path:
        """Write a plan and return its path."""
        path = self.directory / name
        path.write_text(text)
        return path

    def hold(self, text: str, *, passphrase: bytes = PASSPHRASE, now: datetime = NOW) -> Report:
        """Hold the ceremony of a plan."""
        return hold(load_plan(self.write(text)), passphrase=passphrase, now=now)

    def request(self, name: str = "intermediate", number: int = 600) -> None:
        """Write NAME.key and NAME.csr."""
        key = make_key("p256", number)
        csr = certificate_request(
            PrivateKeySigner(key), check_public_key(key.public_key()), trust_domain=TRUST_DOMAIN
        )
        write_new(
            [
                (self.directory / f"{name}.key", private_key_pem(key), 0o600),
                (self.directory / f"{name}.csr", csr.public_bytes(Encoding.PEM), 0o644),
            ]
        )

    def certificate(self, name: str) -> x509.Certificate:
        """Return the certificate in a file."""
        return x509.load_pem_x509_certificate((self.directory / name).read_bytes())

    def crl(self, name: str = "root.crl") -> x509.CertificateRevocationList:
        """Return the revocation list in a file."""
        return x509.load_pem_x509_crl((self.directory / name).read_bytes())

    def files(self) -> set[str]:
        """Return the names of all files, but for the plan's."""
        return {path.name for path in self.directory.iterdir()} - {"plan.yaml"}


def table_with_root(directory: Path, plan: str = ROOT) -> Table:
    """Return a table at which the root ceremony of `plan` has been held."""
    table = Table(directory)
    table.hold(plan)
    return table


def edited(text: str, old: str, new: str) -> str:
    """Return a plan with `new` in the place of `old`, which it must have."""
    assert old in text
    return text.replace(old, new)


def refusal(table: Table, text: str) -> list[tuple[str, str]]:
    """Return what is wrong with the ceremony of a plan; it must leave nothing behind."""
    before = table.files()
    with pytest.raises(InvalidDocument) as caught:
        table.hold(text)
    assert table.files() == before
    return [(problem.path, problem.message) for problem in caught.value.problems]
