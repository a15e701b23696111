"""Processes that append: killed in the middle of a group, and two at once."""

import os
import random
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.log import Log, lock_log
from audit.verify import verify
from meshca.database import open_engine
from meshca.schema import migrate
from tests.real_parts import ROOT, wait_until
from tests.stores import Postgresql, postgresql

ROUNDS = 5
LONGEST_LIFE_SECONDS = 0.3


def start(url: str, name: str, count: int = 0) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.audit.faults.append_forever", url, name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def committed_before_the_kill(url: str, name: str, after_seconds: float) -> list[str]:
    """Append in another process, kill it `after_seconds` after its first commit."""
    with start(url, name) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "nothing was committed within a minute"
        deadline, read = time.monotonic() + after_seconds, b""
        while time.monotonic() < deadline:
            if select.select([process.stdout], [], [], 0.005)[0]:
                read += os.read(process.stdout.fileno(), 1 << 16)
        process.kill()
        read += process.stdout.read()
    return read.decode().split()


def serials(engine: sa.Engine) -> dict[str, list[str]]:
    """Return the serials of the log, in its order, by who appended them."""
    found: dict[str, list[str]] = defaultdict(list)
    for stored in Log(engine).entries():
        document = stored.document() or {}
        found[document["actor"]].append(document["serial"])
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_9_in_the_middle_of_a_group_loses_nothing_and_leaves_one_tree(
    tmp_path: Path, kind: str
) -> None:
    if kind == "sqlite":
        _kill_and_look(f"sqlite:///{tmp_path / 'meshca.db'}")
        return
    with postgresql() as server:
        _kill_and_look(server.url)


def _kill_and_look(url: str) -> None:
    chance = random.Random(20261121)  # moments to kill at
    printed = {
        f"life-{n}": committed_before_the_kill(
            url, f"life-{n}", chance.random() * LONGEST_LIFE_SECONDS
        )
        for n in range(ROUNDS)
    }
    assert sum(map(len, printed.values())) >= ROUNDS
    engine = open_engine(url)
    try:
        logged = serials(engine)
        for name, committed in printed.items():
            assert set(committed) <= set(logged[name]), "what was committed is in the log"
            assert len(set(logged[name])) == len(logged[name]), "and once"
        assert verify(engine).size == sum(map(len, logged.values()))
    finally:
        engine.dispose()


def test_two_processes_append_thousands_and_make_one_tree_without_a_hole() -> None:
    count = 3_000
    with postgresql() as server:
        _migrated(server)
        with _nobody_appends(server) as waiting:
            running = [start(server.url, name, count) for name in ("one", "two")]
            wait_until(lambda: waiting() == 2, within_seconds=60, what="both want to append")
        for process in running:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            assert len(out.split()) == count
        engine = open_engine(server.url)
        try:
            assert verify(engine).size == 2 * count
            assert [s.index for s in Log(engine).entries()] == list(range(2 * count))
            logged = serials(engine)
            wanted = {f"{n:x}" for n in range(count)}
            assert {name: set(found) for name, found in logged.items()} == {
                "one": wanted,
                "two": wanted,
            }
            assert _switches(engine) > 10, "they took turns"
        finally:
            engine.dispose()


def _migrated(server: Postgresql) -> None:
    engine = open_engine(server.url)
    migrate(engine)
    engine.dispose()


@contextmanager
def _nobody_appends(server: Postgresql) -> Iterator[Callable[[], int]]:
    """Hold the log's lock; yield what tells how many processes wait for it."""
    engine = open_engine(server.url)
    query = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    try:
        with engine.begin() as connection:
            lock_log(connection)
            yield lambda: int(connection.execute(query).scalar_one())
    finally:
        engine.dispose()


def _switches(engine: sa.Engine) -> int:
    actors = [(stored.document() or {})["actor"] for stored in Log(engine).entries()]
    return sum(a != b for a, b in pairwise(actors))
