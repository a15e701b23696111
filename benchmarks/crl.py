"""Revocation lists: encoded, signed, stored and told; a short one, and one of 100,000 entries.

The first two rows are the list alone, as `RevocationLists` makes it, in the thread's CPU time. The
others go through all of it, on SQLite on the disk: from the record of a revocation to the list in
force, without the push.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles

import uvloop

from benchmarks.figure import Context, Row, Target
from ca.authority import Authority
from ca.revocation.list_entries import ListEntries
from ca.revocation.reason import Reason
from ca.revocation.store import Revocation
from meshca.clock import SystemClock
from meshca.service import calm_collector
from tests.ca.lists_world import World, authority_now, one, until

TITLE = "Revocation lists"
ROUNDS = 5
BATCH = 500


def run(context: Context) -> Iterator[Row]:
    """Measure a long list alone, then short and long ones from the record to what is in force."""
    count = context.scale(100_000, 10_000)
    authority = authority_now()
    calm_collector()
    yield from _alone(authority, count)
    with (
        tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        times = context.scale(200, 20)
        yield from runner.run(_through(Path(directory), authority, count, times))


def _alone(authority: Authority, count: int) -> Iterator[Row]:
    now = SystemClock().now()
    built: list[tuple[float, float]] = []
    more: list[tuple[float, float]] = []
    size = 0
    for _ in range(ROUNDS):
        entries, revoked = ListEntries(), dict(_revocation(authority) for _ in range(count))
        for spent in (built, more):
            wanted = dict(revoked)
            cpu, wall = time.thread_time(), time.perf_counter()
            entries.take(wanted, now)
            size = len(entries.sign(authority, number=1, revision=1, now=now).der)
            spent.append((time.thread_time() - cpu, time.perf_counter() - wall))
            revoked.update([_revocation(authority)])
    cpu, wall = _medians(built)
    yield Row(
        f"{count:,} entries, encoded and signed",
        cpu,
        "s CPU",
        target=Target(1.0, is_minimum=False),
        note=f"{size / 2**20:.1f} MiB; {wall:.2f} s wall; median of {ROUNDS}",
    )
    cpu, wall = _medians(more)
    yield Row(
        f"one more than {count:,}",
        cpu * 1e3,
        "ms CPU",
        target=Target(100.0, is_minimum=False),
        note=f"{wall * 1e3:.0f} ms wall; median of {ROUNDS}",
    )


def _medians(spent: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(cpu for cpu, _ in spent), median(wall for _, wall in spent)


def _revocation(authority: Authority) -> tuple[str, Revocation]:
    """Return one by its serial."""
    now = SystemClock().now().replace(microsecond=0)
    serial, name, reason = f"{secrets.randbits(128):x}", authority.authority_id, Reason.superseded
    return serial, Revocation(serial, "d", name, "spiffe://x/y", "", now, reason, now)


async def _through(directory: Path, authority: Authority, count: int, times: int) -> list[Row]:
    async with one(directory, authority, clock=SystemClock()) as world:
        await until(lambda: world.number() == 1, "the first list")
        short = [await _revoked(world) for _ in range(times)]
        started, lists = time.perf_counter(), world.number()
        for _ in range(count // BATCH):
            await world.revoke(*(secrets.randbits(128) for _ in range(BATCH)))
        async with _until_told(world):
            pass
        flood, lists = time.perf_counter() - started, world.number() - lists
        long = [await _revoked(world, rest=3.0) for _ in range(ROUNDS)]
    p99 = quantiles(short, n=100)[98]
    return [
        Row(
            "a revocation, from its record to the list in force",
            median(short) * 1e3,
            "ms",
            target=Target(20.0, is_minimum=False),
            note=f"p99 {p99 * 1e3:.0f} ms; {times} one by one",
        ),
        Row(
            f"{count:,} revoked at once, until the last is on the list",
            flood,
            "s",
            note=f"records of {BATCH}, written meanwhile; {lists} lists signed",
        ),
        Row(
            "one more then, from its record to the list in force",
            median(long) * 1e3,
            "ms",
            note=f"worst of {ROUNDS}: {max(long) * 1e3:.0f} ms",
        ),
    ]


async def _revoked(world: World, *, rest: float = 0.05) -> float:
    """Revoke one when nothing was for a while; return how long until its list is in force."""
    await asyncio.sleep(rest)
    async with _until_told(world):
        await world.revoke(secrets.randbits(128))
        started = time.perf_counter()
    return time.perf_counter() - started


@contextlib.asynccontextmanager
async def _until_told(world: World) -> AsyncIterator[None]:
    """Wait at the end until the list knows everything that is revoked."""
    told = asyncio.Event()
    world.lists.subscribe(told.set)
    yield
    while world.crl().revision < world.state.revision:
        told.clear()
        await told.wait()
