"""What a proxy tells is bounded, over all of its streams, and so is what all proxies tell."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from authz.records.decisions import Decisions
from meshca.errors import Overloaded
from sds import access_log_rates
from sds.access_log_rates import MAXIMUM_STREAMS_PER_HOLDER, HolderRates
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, make_policies
from tests.sds.deciding import deciding, proof
from tests.sds.test_access_log import LATER, READ, entries, http_entry, tell


def test_a_bucket_is_forgotten_once_it_is_full_again() -> None:
    clock = FakeClock()
    rates = HolderRates(clock, 2.0, 10.0)
    for holder in ("a", "b"):
        assert all(rates.take_in(holder).take() for _ in range(4))
        for _ in range(4):
            rates.let_go(holder)
    assert rates.remembered == 2

    clock.advance(timedelta(seconds=2))
    rates.take_in("c")
    rates.let_go("c")
    assert rates.remembered == 0


def test_what_rests_is_bounded() -> None:
    rates = HolderRates(FakeClock(), 2.0, 10.0)
    for number in range(access_log_rates.MAXIMUM_STREAMS + 5):
        rates.take_in(str(number)).take()
        rates.let_go(str(number))
    assert rates.remembered == access_log_rates.MAXIMUM_STREAMS


def test_a_flood_is_cut_counted_and_does_not_silence_others(mesh: Mesh) -> None:
    async def story() -> None:
        options: dict[str, Any] = {"entries_per_second": 2.0}
        async with deciding(mesh, make_policies(READ), **options) as doors:
            await tell(doors, *[http_entry()] * 50)
            assert len(doors.seen) == 10, "two a second, five seconds' worth at once"
            assert entries(doors, "flood") == 40
            await tell(doors, http_entry(), token="shop/web/web-1")
            assert len(doors.seen) == 11
            await doors.recorder.flush()
            lost = Decisions(mesh.writer.engine).lost(mesh.clock.now() - LATER)
            assert lost == {"flood": 40}

    asyncio.run(story())


def test_several_streams_of_one_proxy_share_its_bound(mesh: Mesh) -> None:
    async def story() -> None:
        options: dict[str, Any] = {"entries_per_second": 2.0}
        async with deciding(mesh, make_policies(READ), **options) as doors:
            await asyncio.gather(*(tell(doors, *[http_entry()] * 10) for _ in range(5)))
            assert len(doors.seen) == 10, "two a second, five seconds' worth at once"
            await tell(doors, *[http_entry()] * 10)
            assert len(doors.seen) == 10, "nor does a stream after the others bring a new burst"
            mesh.clock.advance(timedelta(seconds=1))
            await tell(doors, *[http_entry()] * 10)
            assert len(doors.seen) == 12

    asyncio.run(story())


def test_all_proxies_together_have_a_bound_too(mesh: Mesh) -> None:
    async def story() -> None:
        options: dict[str, Any] = {"all_entries_per_second": 2.0}
        async with deciding(mesh, make_policies(READ), **options) as doors:
            for pod in range(4):
                await tell(doors, *[http_entry()] * 5, token=f"shop/web/web-{pod}")
            assert len(doors.seen) == 10

    asyncio.run(story())


def test_one_holder_may_not_open_streams_without_end(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:

            async def never() -> StreamAccessLogsMessage | None:
                await asyncio.Event().wait()
                raise AssertionError

            streams = [
                asyncio.ensure_future(doors.logs.stream(never, proof()))
                for _ in range(MAXIMUM_STREAMS_PER_HOLDER)
            ]
            while doors.logs.streams < MAXIMUM_STREAMS_PER_HOLDER:
                await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await doors.logs.stream(never, proof())
            doors.logs.end_all()
            await asyncio.gather(*streams)

    asyncio.run(story())
