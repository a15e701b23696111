"""Applications that ask too much lose decisions of their own, and of nobody else."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz.records.rates import ALL_ASKED_AT_ONCE, ASKED_AT_ONCE, MAXIMUM_ASKERS, AskerRates
from authz.records.recorder import BURST
from tests.authz.records.test_recorder import AN_HOUR, PROXY, WEB, observed, recording
from tests.fakes import FakeClock
from tests.stores import sqlite_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A migrated database."""
    with sqlite_engine(tmp_path) as engine:
        yield engine


def test_an_application_that_asks_too_much_loses_its_own_only(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            denied = observed(r.clock, "POST")
            for _ in range(BURST + ASKED_AT_ONCE):
                r.recorder.record(replace(denied, asked_by=str(WEB)))
            assert r.lost("rate") == BURST
            r.recorder.record(replace(denied, asked_by=PROXY))
            r.recorder.record(denied)
            assert r.lost("rate") == BURST
            await r.recorder.flush()
            kept = r.decisions.denials(r.clock.now() - AN_HOUR, limit=1_000)
            assert len(kept) == ASKED_AT_ONCE + 2

    asyncio.run(story())


def test_all_applications_together_leave_proxies_their_own(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            denied = observed(r.clock, "POST")
            for number in range(2 * ALL_ASKED_AT_ONCE):
                asker = f"oidc:{number * 2 // ASKED_AT_ONCE}"
                r.recorder.record(replace(denied, asked_by=asker))
            assert r.lost("rate") == ALL_ASKED_AT_ONCE
            r.recorder.record(denied)
            assert r.lost("rate") == ALL_ASKED_AT_ONCE

    asyncio.run(story())


def test_sources_that_one_application_invents_are_counted_as_one_peer(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            denied = observed(r.clock, "POST")
            for number in range(120):
                http = replace(denied.request.http, path=f"/{number}")  # type: ignore[type-var]
                source = replace(WEB, path=f"/ns/bank/sa/{number % 2}")
                request = replace(denied.request, source=source, http=http)
                r.recorder.record(replace(denied, request=request, asked_by=PROXY))
            await r.recorder.close()
            distinct = list(r.decisions.distinct(r.clock.now() - AN_HOUR))
            assert len(distinct) == 102, "a hundred in all, and what is folded of two sources"

    asyncio.run(story())


def test_buckets_of_applications_are_forgotten_when_they_are_full_and_have_a_bound() -> None:
    clock = FakeClock()
    rates = AskerRates(clock)
    for number in range(MAXIMUM_ASKERS + 5):
        rates.take(f"oidc:{number}")
    assert rates.remembered == MAXIMUM_ASKERS
    clock.advance(timedelta(minutes=1))
    assert rates.take("oidc:new")
    assert rates.remembered == 1
