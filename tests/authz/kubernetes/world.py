"""A loader whose policies are a cluster's, on a real database, with short waits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from authz.kubernetes.reflector import Waits
from authz.kubernetes.watch import KubernetesPolicies
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions, SourceChange
from authz.state import PolicyState
from authz.status import SourceStatus
from meshca.api_server import ApiServerConnection
from meshca.clock import SystemClock
from meshca.metrics import Metrics
from meshca.settings_values import ApiServer
from tests.authz.builders import names
from tests.stores import sqlite_engine, writer_of

WAITS = Waits(first_retry=0.05, longest_retry=0.3, settle=0.3, grace=1.0, watch=5.0, silence=20.0)


@dataclass
class World:
    """What the loader made of the cluster, and what it told."""

    loader: PolicyLoader
    source: KubernetesPolicies
    engine: sa.Engine
    metrics: Metrics
    changes: list[SourceChange] = field(default_factory=list)

    @property
    def in_force(self) -> list[str]:
        """Return the names of the policies in force."""
        return names(self.loader.state.current.policies)

    @property
    def status(self) -> SourceStatus:
        """Return how the cluster stands as a source."""
        return self.source.status()

    def value(self, name: str) -> float | None:
        """Return a metric of the source."""
        return self.metrics.registry.get_sample_value(name, {"source": "kubernetes"})

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds; a slow machine has a minute."""
        try:
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise AssertionError(f"not within a minute: {what}; {self.status}") from error

    async def until_in_force(self, *wanted: str) -> None:
        """Wait until exactly the policies `wanted` are in force."""
        await self.until(lambda: sorted(self.in_force) == sorted(wanted), f"{wanted} in force")


@asynccontextmanager
async def running(
    kubeconfig: Path,
    directory: Path,
    *,
    policies: Path | None = None,
    waits: Waits = WAITS,
    start_tries: int = 0,
) -> AsyncIterator[World]:
    """Start a loader of the cluster and of `policies`, on the database in `directory`."""
    clock, metrics = SystemClock(), Metrics()
    with sqlite_engine(directory) as engine:
        async with writer_of(engine) as writer:
            source = KubernetesPolicies(
                name="kubernetes",
                connection=ApiServerConnection(
                    ApiServer.model_validate({"kubeconfig": str(kubeconfig)})
                ),
                engine=engine,
                writer=writer,
                clock=clock,
                metrics=metrics,
                waits=waits,
                start_tries=start_tries,
            )
            empty = PolicySet.empty(trust_domain="example.org", root_namespace="meshca")
            loader = PolicyLoader(
                state=PolicyState(empty),
                options=PolicyOptions(
                    "example.org", "meshca", "deny", (policies,) if policies else ()
                ),
                engine=engine,
                clock=clock,
                metrics=metrics,
                live=(source,),
                poll_seconds=0.05,
            )
            world = World(loader, source, engine, metrics)
            loader.on_source_change = world.changes.append
            await asyncio.to_thread(loader.start)
            task = asyncio.create_task(loader.run())
            try:
                yield world
            finally:
                task.cancel()
                await asyncio.wait([task])
                source.connection.close()
