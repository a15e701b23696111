"""A whole server whose authority is a real OpenBao, which is sealed while the mesh goes on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.ca.vault.world import Prepared, prepare, secret_file
from tests.end_to_end.authorities import issue
from tests.end_to_end.server import RunningServer
from tests.openbao import OpenBao
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """A server with everything that the set-up script makes."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as bao:
        yield prepare(bao, AUTH="approle", KEY_NAME="meshca", PKI_MOUNT="pki")


@pytest.fixture(params=["vault", "vault_transit"])
def server(
    request: pytest.FixtureRequest, vault: Prepared, tmp_path: Path
) -> Iterator[RunningServer]:
    """A running server with that upstream, as the script printed it."""
    secret = secret_file(tmp_path / "secret", vault.wrapped_secret_id())
    auth = {**vault.upstream["auth"], "secret_id_file": str(secret)}
    upstream = {**vault.upstream, "kind": request.param, "auth": auth}
    if request.param == "vault":
        del upstream["transit_mount"], upstream["key_name"]
    with RunningServer(tmp_path / "mesh", settings={"upstream": upstream}) as running:
        yield running


def test_the_mesh_goes_on_while_vault_is_sealed(vault: Prepared, server: RunningServer) -> None:
    root = vault.server.call("GET", "pki/cert/ca")["data"]["certificate"]
    in_vault = server.config.read_text().count("vault_transit") == 1
    status, chain = issue(server)
    leaf, intermediate = x509.load_pem_x509_certificates(chain.encode())
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(root.encode()))
    assert root.strip() in server.meshca("bundle", "show")
    assert status == 0

    vault.server.seal()
    try:
        status, _ = issue(server)
        assert (status != 0) == in_vault
        assert server.is_ready() == (not in_vault)
    finally:
        vault.server.unseal()

    wait_until(lambda: issue(server)[0] == 0, within_seconds=30, what="certificates are issued")
    log = server.log_text()
    assert '"vault_logged_in"' in log
    assert (server.directory.parent / "secret").read_text().strip() not in log
    assert re.search(r"\b(hv)?s\.[A-Za-z0-9]{20,}", log) is None
