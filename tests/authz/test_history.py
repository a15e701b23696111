"""Which set was in force when: written as it changes, and loaded again."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz.history import (
    PolicyHistory,
    changes_between,
    in_force_at,
    load_again,
    policy_history,
    policy_texts,
)
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions
from authz.state import PolicyState
from meshca.errors import StoreUnavailable
from meshca.metrics import Metrics
from tests.authz.builders import ROOT_NAMESPACE, TRUST_DOMAIN
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: NAME, namespace: shop}
spec: {action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]}
"""
BEFORE = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with sqlite_engine(tmp_path) as engine:
        yield engine


def loader(engine: sa.Engine, directory: Path, clock: FakeClock) -> PolicyLoader:
    empty = PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace=ROOT_NAMESPACE)
    made = PolicyLoader(
        state=PolicyState(empty),
        options=PolicyOptions(TRUST_DOMAIN, ROOT_NAMESPACE, "deny", (directory,), ("alias.test",)),
        engine=engine,
        clock=clock,
        metrics=Metrics(),
    )
    made.start()
    return made


def write(directory: Path, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for name in names:
        (directory / f"{name}.yaml").write_text(POLICY.replace("NAME", name))


def test_each_set_is_kept_and_means_the_same_when_it_is_loaded_again(
    engine: sa.Engine, tmp_path: Path
) -> None:
    directory, clock, metas = tmp_path / "p", FakeClock(), []

    async def story() -> None:
        write(directory, "one")
        policies = loader(engine, directory, clock)
        async with writer_of(engine, clock=clock) as writer:
            history = PolicyHistory(loader=policies, writer=writer, clock=clock)
            for names in (("one",), ("one", "two"), ("two",), ("one",)):
                write(directory, *names)
                await policies.reload()
                await history.note()
                await history.note()
                metas.append((clock.now(), policies.state.current))
                clock.advance(timedelta(minutes=1))

    asyncio.run(story())
    for time, policies in metas:
        for later in (0, 59):
            kept = in_force_at(engine, time + timedelta(seconds=later))
            assert kept is not None
            assert (kept.since, kept.version) == (time, policies.version)
            assert load_again(kept).version == policies.version
    assert in_force_at(engine, BEFORE) is None
    start = metas[0][0]
    assert [kept.version for kept in changes_between(engine, start, metas[2][0])] == [
        policies.version for _, policies in metas[:2]
    ]
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(policy_texts)).all()) == 2, "a text is kept once"


def test_replicas_write_a_set_once_and_a_restart_not_again(
    engine: sa.Engine, tmp_path: Path
) -> None:
    clock = FakeClock()
    write(tmp_path / "p", "one")

    async def story() -> None:
        async with writer_of(engine, clock=clock) as writer:
            for _ in range(3):
                policies = loader(engine, tmp_path / "p", clock)
                await PolicyHistory(loader=policies, writer=writer, clock=clock).note()
                clock.advance(timedelta(minutes=1))

    asyncio.run(story())
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(policy_history)).all()) == 1


def test_a_change_is_written_once_the_database_answers(engine: sa.Engine, tmp_path: Path) -> None:
    clock = FakeClock()
    write(tmp_path / "p", "one")

    def rename(table: str, to: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")

    async def story() -> None:
        policies = loader(engine, tmp_path / "p", clock)
        async with writer_of(engine, clock=clock) as writer:
            history = PolicyHistory(loader=policies, writer=writer, clock=clock, retry_seconds=0.01)
            policies.state.subscribe(history.heed)
            rename("policy_history", "away")
            running = asyncio.create_task(history.run())
            with pytest.raises(StoreUnavailable):
                await history.note()
            rename("away", "policy_history")
            async with asyncio.timeout(10):
                while in_force_at(engine, clock.now()) is None:
                    await asyncio.sleep(0.01)
            write(tmp_path / "p", "two")
            clock.advance(timedelta(minutes=1))
            await policies.reload()
            async with asyncio.timeout(10):
                while len(changes_between(engine, BEFORE, clock.now() + timedelta(1))) < 2:
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
