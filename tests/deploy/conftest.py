"""An API server that the manifests are applied to."""

from collections.abc import Iterator

import pytest

from tests.deploy.cluster import REAL, apply
from tests.deploy.manifests import everything
from tests.kube import KubeApiServer


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """An API server of our own: the manifests' namespaces exist in it, and what grants rights."""
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        for document in everything():
            if document["kind"] in REAL:
                apply(server, document, dry_run=False)
        yield server
