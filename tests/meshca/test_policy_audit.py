"""Changes of policy from outside are recorded, whatever the database does meanwhile."""

import asyncio
from pathlib import Path

import sqlalchemy as sa

from audit.query import Query, find
from authz.change import Change
from authz.sources import SourceChange
from meshca.policy_audit import MAXIMUM_WAITING, SourceChanges
from tests.fakes import FakeClock
from tests.stores import open_sqlite, sqlite_engine, writer_of


def told(name: str) -> SourceChange:
    return SourceChange(Change((name,), (), (), "v1", name), "directory", "+ it")


def test_a_change_is_written_again_until_it_is_and_in_order(tmp_path: Path) -> None:
    engine = open_sqlite(tmp_path)

    def rename(old: str, new: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    async def story() -> None:
        async with writer_of(engine) as writer:
            changes = SourceChanges(writer, FakeClock(), retry_seconds=0.01)
            rename("audit_entries", "away")
            for name in ("shop/a", "shop/b"):
                changes.tell(told(name))
            await asyncio.sleep(0.1)
            rename("away", "audit_entries")
            async with asyncio.timeout(10):
                while len(find(engine, Query(kind="policy_change"))) < 2:
                    await asyncio.sleep(0.01)

    asyncio.run(story())
    found = find(engine, Query(kind="policy_change", oldest_first=True))
    assert [each.body["details"]["added"] for each in found] == [["shop/a"], ["shop/b"]]
    engine.dispose()


def test_changes_that_find_no_room_to_wait_are_told_as_lost(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> list[str]:
        lost: list[str] = []
        async with writer_of(engine) as writer:
            changes = SourceChanges(writer, FakeClock(), lost.append)
            for number in range(MAXIMUM_WAITING + 2):
                changes.tell(told(f"shop/p{number}"))
            assert changes._writing is not None
            changes._writing.cancel()
        return lost

    with sqlite_engine(tmp_path) as engine:
        assert asyncio.run(story(engine)) == ["policy_change"] * 2
