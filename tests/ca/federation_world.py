"""A federation on a real database with endpoints of its own, and the domains in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ca.authority import Authorities
from ca.federation.federation import Federation
from ca.federation.member import Member
from ca.federation.store import Relation
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from tests.builders import TRUST_DOMAIN, make_pki
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, FakeEndpoints, document
from tests.fakes import FakeClock
from tests.stores import documents, sqlite_engine, writer_of

OURS = make_pki(number=1)
THEIRS = make_pki(trust_domain=PARTNER, number=2)
NEXT = make_pki(trust_domain=PARTNER, number=3)
THIRD = make_pki(trust_domain="third.test", number=4)
WEB = Relation(PARTNER, "https://mesh.partner.test/bundle.json", "https_web")
SPIFFE = replace(WEB, profile="https_spiffe", endpoint_id=ENDPOINT_ID)


@dataclass
class World:
    """A federation on a real database, with endpoints as the test says."""

    federation: Federation
    endpoints: FakeEndpoints
    clock: FakeClock
    metrics: Metrics
    writer: GroupWriter
    changes: list[frozenset[str]]

    async def add(self, relation: Relation = WEB, seed: bytes = b"", **more: Any) -> Member:
        """Federate, as an operator does."""
        given = {"actor": "uid:0", "reason": "CHG-7", "replaces": False, **more}
        return await self.federation.add(relation, seed, **given)

    def roots(self, name: str = PARTNER) -> list[Any]:
        """Return the roots that proxies are told of."""
        bundle = self.federation.current().bundles.get(name)
        return [] if bundle is None else list(bundle.roots)

    def entries(self) -> list[dict[str, Any]]:
        """Return the audit entries of federation, the oldest first."""
        found = documents(self.federation.engine)
        return [one for one in found if one["kind"] == "federation_change"]

    def sample(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.metrics.registry.get_sample_value(name, {"trust_domain": PARTNER, **labels})


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Run a federation whose partner publishes its bundle; load what the database has."""
    clock, metrics, authorities = FakeClock(), Metrics(), Authorities(TRUST_DOMAIN)
    authorities.activate(OURS.authority(), (OURS.root,))
    endpoints = FakeEndpoints({PARTNER: document(THEIRS)})
    with sqlite_engine(directory) as engine:
        async with writer_of(engine) as writer:
            federation = Federation(
                trust_domain=TRUST_DOMAIN,
                own=lambda: authorities.bundle,
                endpoints=endpoints,
                engine=engine,
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            changes: list[frozenset[str]] = []
            federation.subscribe(lambda: changes.append(frozenset(federation.current().bundles)))
            await federation.load()
            yield World(federation, endpoints, clock, metrics, writer, changes)


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def within() -> None:
        async with world(directory) as w:
            await story(w)

    asyncio.run(within())


def own_root() -> bytes:
    return document(make_pki(trust_domain=PARTNER, number=1), 9)  # the key of OURS
