"""The console in a browser, for the files that test its pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.admin.console_world import Console, Watched, browser, console, watched


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """A browser; of each file, since its event loop is in the way of others."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console whose log has a history."""
    with console(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture(scope="module")
def page_of_all(chrome: Browser, served: Console) -> Iterator[Watched]:
    """The page that all tests of a file use."""
    with watched(chrome, served) as page:
        yield page


@pytest.fixture
def look(page_of_all: Watched) -> Iterator[Watched]:
    """That page, for one test: what it does wrong fails it."""
    with page_of_all.for_a_test():
        yield page_of_all
