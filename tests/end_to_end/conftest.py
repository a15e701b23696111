"""Fixtures of the end-to-end tests; every test here runs real programs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshca.demo.app import EchoApp
from tests.end_to_end.server import RunningServer
from tests.real_parts import envoy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, with the lifetimes of `meshca init`."""
    envoy()
    with RunningServer(tmp_path) as running:
        yield running


@pytest.fixture
def app() -> Iterator[EchoApp]:
    """An app that answers with what it saw."""
    with EchoApp() as running:
        yield running
