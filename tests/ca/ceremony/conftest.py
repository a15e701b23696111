"""The table that most ceremonies are held at."""

from pathlib import Path

import pytest

from tests.ca.ceremony.plans import Table, table_with_root


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table with a root and a request."""
    table = table_with_root(tmp_path)
    table.request()
    return table
