"""`meshca audit verify-index` on a database, without a server."""

import json
from pathlib import Path

import pytest

from audit.index.blocks import encode_block
from audit.index.building import SMALL
from tests.audit.index.world import append, entries, index, segments
from tests.audit.tampering import execute
from tests.meshca.cli import meshca
from tests.meshca.test_cli_audit_backup import config, database
from tests.meshca.test_cli_shapes import DOCUMENTED, agree, shape


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A configuration that names a database with an indexed log."""
    path = config(tmp_path / "here")
    engine = database(path)
    append(engine, entries(0, 2 * SMALL))
    index(engine)
    engine.dispose()
    return path


def test_an_index_that_hides_entries_is_named_with_where(configuration: Path) -> None:
    command = ("audit", "verify-index", "-c", str(configuration))
    well = meshca(*command)
    assert (well.status, well.out) == (0, "2 segments of 2048 entries are well\n")
    engine = database(configuration)
    first = segments(engine)[0].id
    empty = encode_block([], {})
    execute(engine, "UPDATE audit_postings SET lists = :b WHERE segment = :s", b=empty, s=first)
    engine.dispose()
    forged = meshca(*command, "-o", "json")
    assert forged.status == 1
    said = json.loads(forged.out)
    assert agree(shape(DOCUMENTED["meshca audit verify-index"]), shape(said))
    assert (said["segments"], said["entries"]) == (2, 2048)
    assert said["wrong"] == [
        {
            "segment": first,
            "first_index": 0,
            "end_index": SMALL,
            "problem": "its lists are not those of its entries",
        }
    ]
    assert "audit-index.md" in meshca(*command).err
