"""One real OpenBao for the session, prepared by the script and the policies of deploy/vault/."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ca.vault.world import ALL, Prepared, prepare
from tests.openbao import OpenBao


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A server that is never stopped; who seals it unseals it."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as bao:
        yield bao


@pytest.fixture(scope="session")
def vault(server: OpenBao) -> Prepared:
    """The server with a PKI mount, a Transit key, a policy, and an AppRole."""
    return prepare(server, AUTH="approle", **ALL)


@pytest.fixture
def sealed(vault: Prepared) -> Iterator[Prepared]:
    """The same, sealed until the test ends; the test may unseal it."""
    vault.server.seal()
    try:
        yield vault
    finally:
        vault.server.unseal()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory for token files."""
    return tmp_path
