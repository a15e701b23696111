"""A name is one process's, and free as soon as that process is not: on SQLite and PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshca.database import open_engine
from meshca.errors import StoreUnavailable
from meshca.name_locks import open_name_locks
from tests.real_parts import ROOT, wait_until
from tests.stores import Postgresql, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """Both databases, one after the other."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'meshca.db'}"
    else:
        url = request.getfixturevalue("server").url
    engine = open_engine(url)
    yield engine
    engine.dispose()


def test_a_name_is_held_by_one(engine: sa.Engine) -> None:
    one, two = open_name_locks(engine), open_name_locks(engine)
    assert not two.is_held("replica.a")
    assert one.hold("replica.a")
    assert one.hold("replica.a"), "asked again, it is still ours"
    assert not two.hold("replica.a")
    assert two.is_held("replica.a")
    assert one.is_held("replica.a")
    assert two.hold("replica.b"), "another name is another lock"
    one.close()  # PostgreSQL lets go once it has noticed that the session is gone
    wait_until(lambda: two.hold("replica.a"), within_seconds=10, what="the name to be free")
    two.close()


def test_a_killed_process_holds_nothing(engine: sa.Engine) -> None:
    locks = open_name_locks(engine)
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.meshca.hold_name", url, "replica.a"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not locks.hold("replica.a")
        process.kill()
    wait_until(lambda: locks.hold("replica.a"), within_seconds=10, what="the name to be free")
    locks.close()


def test_a_broken_session_has_lost_its_names_and_takes_them_again(server: Postgresql) -> None:
    engine = open_engine(server.url)
    try:
        locks = open_name_locks(engine)
        assert locks.hold("replica.a")
        server.stop()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            locks.hold("replica.a")
        server.start()
        other = open_name_locks(engine)
        assert other.hold("replica.a"), "it was free meanwhile"
        assert not locks.hold("replica.a"), "and so it is not ours any more"
        other.close()
        assert locks.hold("replica.a")
        locks.close()
    finally:
        engine.dispose()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a" * 200])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'meshca.db'}")
    try:
        with pytest.raises(ValueError, match="not the name of a lock"):
            open_name_locks(engine).hold(name)
    finally:
        engine.dispose()


def test_a_directory_that_takes_no_file_is_named(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'meshca.db'}")
    try:
        (tmp_path / "meshca.db.leader.lock").mkdir()
        with pytest.raises(StoreUnavailable, match=r"cannot lock .*leader\.lock"):
            open_name_locks(engine).hold("leader")
    finally:
        engine.dispose()


def test_a_database_in_memory_has_no_locks() -> None:
    engine = open_engine("sqlite://")
    with pytest.raises(StoreUnavailable, match="in memory"):
        open_name_locks(engine)
    engine.dispose()
