"""Fixtures that every test may ask for."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.kube import KubeApiServer

# How long an example takes says nothing on a machine that others use.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """A real Kubernetes API server for the whole session; never stop or rotate it."""
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        yield server
