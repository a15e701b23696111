"""The last good objects of Kubernetes in the database: put, replaced, gone, by source."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz.kubernetes.kept import KeptObjects, read_kept
from meshca.database import open_engine
from meshca.errors import StoreUnavailable
from tests.stores import Postgresql, postgresql, postgresql_engine, sqlite_engine, writer_of


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield stack.enter_context(sqlite_engine(tmp_path))
            return
        server = request.getfixturevalue("server")
        yield stack.enter_context(postgresql_engine(server))


def write(engine: sa.Engine, *records: KeptObjects) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            for record in records:
                await writer.submit(record)

    asyncio.run(story())


def kept(source: str, put: Mapping[str, str], gone: Iterable[str] = ()) -> KeptObjects:
    return KeptObjects(source, put, frozenset(gone), "2026-11-01T12:00:00+00:00")


def test_keeps_what_was_put_last_and_not_what_is_gone(engine: sa.Engine) -> None:
    assert read_kept(engine, "kubernetes") is None
    write(engine, kept("kubernetes", {}))
    assert read_kept(engine, "kubernetes") == {}
    many = {f"object-{number}": "1" for number in range(1_200)}
    write(
        engine,
        kept("kubernetes", {"a": "1", "b": "1", **many}),
        kept("kubernetes-2", {"a": "other"}),
        kept("kubernetes", {"b": "2"}, [*many, "never"]),
    )
    assert read_kept(engine, "kubernetes") == {"a": "1", "b": "2"}
    assert read_kept(engine, "kubernetes-2") == {"a": "other"}


def test_a_database_without_the_table_is_unavailable(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StoreUnavailable):
        read_kept(engine, "kubernetes")
    engine.dispose()
