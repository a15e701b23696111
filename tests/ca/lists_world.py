"""Revocation lists on real parts: a database, its writer, the state, and authorities that sign."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

from ca.authority import Authority, Signer
from ca.keys import PrivateKeySigner
from ca.revocation.lists import RevocationLists
from ca.revocation.reason import Reason
from ca.revocation.state import RevocationState
from ca.revocation.store import Released, Revocation, Revocations, Revoked
from ca.revocation.view import Crl
from meshca.clock import Clock, SystemClock
from meshca.database import GroupWriter, Sink
from meshca.metrics import Metrics
from tests.builders import NOW, make_pki
from tests.fakes import FakeClock
from tests.stores import SINKS, sqlite_engine

OLD = make_pki(now=NOW - timedelta(hours=1), lifetime=timedelta(days=90))
OTHER = make_pki(now=NOW - timedelta(hours=1), lifetime=timedelta(days=90), number=2)
WEEK = make_pki(now=NOW - timedelta(hours=1), lifetime=timedelta(days=7))


@dataclass
class Signing:
    """A signer that fails while `failure` is set, and remembers what it signed."""

    key: Signer = field(default_factory=lambda: PrivateKeySigner(OLD.intermediate_key))
    failure: Exception | None = None
    signed: list[bytes] = field(default_factory=list)

    @property
    def signature_algorithm(self) -> bytes:
        """Return that of its key."""
        return self.key.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Sign, or fail as the test says."""
        if self.failure is not None:
            raise self.failure
        self.signed.append(message)
        return self.key.sign(message)


@dataclass
class World:
    """One replica; `held` are the authorities whose keys it has."""

    lists: RevocationLists
    state: RevocationState
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    held: list[Authority]

    async def revoke(
        self,
        *serials: int,
        authority: Authority | None = None,
        reason: Reason = Reason.keyCompromise,
        lives: timedelta = timedelta(hours=12),
    ) -> None:
        """Revoke certificates of `authority`, by default the first that is held."""
        authority = authority or self.held[0]
        batch = [self.revocation(s, authority, reason, lives) for s in serials]
        await self.writer.submit(Revoked(batch))
        await self.state.load()

    def revocation(
        self, serial: int, authority: Authority, reason: Reason, lives: timedelta
    ) -> Revocation:
        """Return the revocation of one certificate that ends when it has lived that long."""
        now = self.clock.now().replace(microsecond=0)
        name = authority.authority_id
        return Revocation(f"{serial:x}", "d", name, "spiffe://x/y", "", now + lives, reason, now)

    async def release(self, serial: int) -> None:
        """End a hold."""
        await self.writer.submit(Released(f"{serial:x}", self.clock.now()))
        await self.state.load()

    def crl(self, authority: Authority | None = None) -> Crl:
        """Return the list in force."""
        return self.lists.get((authority or self.held[0]).authority_id)

    def number(self, authority: Authority | None = None) -> int:
        """Return the number of the list in force; 0 when there is none."""
        crl = self.lists.current().get((authority or self.held[0]).authority_id)
        return 0 if crl is None else crl.number

    def stored(self) -> Mapping[str, int]:
        """Return the number of each list in the table."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT authority_id, number FROM crls")
            return {str(name): int(number) for name, number in rows}

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric's sample; 0 before there is one."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def serials(crl: Crl) -> set[int]:
    """Return what is on a list."""
    return {entry.serial_number for entry in x509.load_der_x509_crl(crl.der)}


def signing_authority(signer: Signer | None = None) -> Authority:
    """Return an authority with a key in memory, or with `signer`."""
    return OLD.authority(signer)


def authority_now(signer: Signer | None = None) -> Authority:
    """Return an authority that is valid by the system's clock."""
    return make_pki(now=SystemClock().now() - timedelta(hours=1)).authority(signer)


@asynccontextmanager
async def replica(
    engine: sa.Engine,
    *held: Authority,
    clock: Clock | None = None,
    sinks: Mapping[type, Sink] = SINKS,
) -> AsyncIterator[World]:
    """Yield one replica on `engine`, loaded; its loop does not run."""
    clock, metrics, keys = clock or FakeClock(), Metrics(), list(held)
    state = RevocationState(revocations=Revocations(engine), clock=clock)
    async with GroupWriter(engine, sinks, clock, metrics) as writer:
        lists = RevocationLists(
            state=state,
            signers=lambda: keys,
            engine=engine,
            writer=writer,
            clock=clock,
            metrics=metrics,
            draw=random.Random(1),
        )
        state.subscribe(lists.wake)
        await state.load()
        await lists.load()
        yield World(lists, state, engine, writer, clock, metrics, keys)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Run the loop of `world`."""
    loop = asyncio.create_task(world.lists.run())
    try:
        yield world
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


@asynccontextmanager
async def one(
    directory: Path, *held: Authority, clock: Clock | None = None
) -> AsyncIterator[World]:
    """Yield one running replica on a database of its own."""
    with sqlite_engine(directory) as engine:
        async with replica(engine, *held, clock=clock) as world, running(world):
            yield world


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll `condition` until it holds; fail, saying `what` was awaited, at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.002)


async def turns(world: World, count: int = 10) -> None:
    """Let the loop of `world` look that often: long enough for what it might do wrongly."""
    for _ in range(count):
        world.lists.wake()
        await asyncio.sleep(0.005)
