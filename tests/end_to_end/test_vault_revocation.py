"""A real OpenBao that may revoke: what is tainted here is on its list, and the other way round."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.ca.vault.world import Prepared, prepare, secret_file
from tests.end_to_end.authorities import authorities, issue
from tests.end_to_end.server import RunningServer
from tests.openbao import OpenBao
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """A server prepared by the set-up script, with leave to revoke."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as bao:
        yield prepare(bao, AUTH="approle", PKI_MOUNT="pki", REVOKE="yes")


@pytest.fixture
def server(vault: Prepared, tmp_path: Path) -> Iterator[RunningServer]:
    """A running server below it, whose certificates end soon."""
    secret = secret_file(tmp_path / "secret", vault.wrapped_secret_id())
    auth = {**vault.upstream["auth"], "secret_id_file": str(secret)}
    settings: dict[str, Any] = {"upstream": {**vault.upstream, "auth": auth}}
    with RunningServer(tmp_path / "mesh", settings=settings, svid="10s") as running:
        yield running


def signing(server: RunningServer) -> str:
    """Return the authority that signs now; it has signed at least the server's own certificate."""
    return str(server.query("ca", "show")["signing"])


def serial_of(vault: Prepared, authority: str) -> str:
    """Return the serial of what Vault has signed for an authority, as Vault writes it."""
    for serial in vault.server.call("LIST", "pki/certs")["data"]["keys"]:
        pem = vault.server.call("GET", f"pki/cert/{serial}")["data"]["certificate"]
        found = x509.load_pem_x509_certificate(pem.encode())
        key = found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        if key.digest.hex() == authority:
            return str(serial)
    raise AssertionError(authority)


def listed(vault: Prepared) -> set[str]:
    """Return the serials on the list of the mount's root."""
    pem = vault.server.call("GET", "pki/cert/crl")["data"]["certificate"]
    crl = x509.load_pem_x509_crl(pem.encode())
    return {f"{revoked.serial_number:040x}" for revoked in crl}


def test_revocation_goes_up_to_vault_and_comes_down_from_it(
    vault: Prepared, server: RunningServer
) -> None:
    first = signing(server)
    server.meshca("ca", "taint", first, "--reason", "a test")
    second = signing(server)
    assert second not in ("", first)
    assert listed(vault) == set()

    # An operator revokes the next one in Vault: nobody tells us.
    vault.server.call("POST", "pki/revoke", {"serial_number": serial_of(vault, second)})
    wait_until(
        lambda: serial_of(vault, first).replace(":", "") in listed(vault),
        within_seconds=20,
        what="what was tainted here is on Vault's list when nothing under it is alive",
    )
    wait_until(
        lambda: authorities(server)[second]["stage"] == "tainted",
        within_seconds=40,
        what="what Vault has revoked is tainted here",
    )

    known = authorities(server)
    assert known[first]["stage"] == "revoked"
    assert known[second]["reason"] == "its issuer has revoked it"
    status, chain = issue(server)
    assert status == 0
    _, intermediate = x509.load_pem_x509_certificates(chain.encode())
    assert f"{intermediate.serial_number:040x}" not in listed(vault)
