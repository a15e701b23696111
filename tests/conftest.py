"""Fixtures that every test may ask for."""

from collections.abc import Iterator

import pytest

from tests.kube import KubeApiServer


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """A real Kubernetes API server for the whole session; never stop or rotate it."""
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        yield server
