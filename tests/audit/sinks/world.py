"""A log with a writer, and sinks fed from it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from audit.log import Log, Stored
from audit.sinks.feed import Collector, SinkFeed
from audit.sinks.otlp import OtlpCollector
from audit.sinks.store import SINK_SINKS, read_next
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks, open_name_locks
from tests.audit.export.entries import an_entry
from tests.fakes import FakeClock
from tests.stores import SINKS, sqlite_engine, writer_of

ORIGIN = "example.org/meshca/audit"


@dataclass
class Kept:
    """A collector in memory; what is in `troubles` is raised first."""

    entries: list[Stored] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)

    async def take(self, entries: Sequence[Stored]) -> int:
        """Keep `entries`."""
        if self.troubles:
            raise self.troubles.pop(0)
        self.entries += entries
        return 0


@dataclass
class SinkWorld:
    """The database, the writer, and what they are measured with."""

    engine: sa.Engine
    writer: GroupWriter
    clock: FakeClock
    locks: NameLocks
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def log(self) -> Log:
        """Return the log."""
        return Log(self.engine)

    async def fill(self, count: int, **changes: Any) -> None:
        """Append so many entries."""
        await self.writer.submit(*(an_entry(number=n, **changes) for n in range(count)))

    def feed(
        self, collector: Collector, *, locks: NameLocks | None = None, **more: Any
    ) -> SinkFeed:
        """Return a sink called `siem`."""
        return SinkFeed(
            name="siem",
            collector=collector,
            log=self.log,
            locks=locks or self.locks,
            writer=self.writer,
            clock=self.clock,
            metrics=self.metrics,
            **more,
        )

    def otlp(self, port: int, **more: Any) -> OtlpCollector:
        """Return the collector that listens at `port`."""
        scheme = "https" if "context" in more else "http"
        url = f"{scheme}://127.0.0.1:{port}/v1/logs"
        return OtlpCollector(url=url, origin=ORIGIN, version="0.1.0", clock=self.clock, **more)

    def next(self) -> int | None:
        """Return where the sink goes on."""
        return read_next(self.engine, "siem")

    def metric(self, name: str) -> float:
        """Return a metric of the sink."""
        labels = {"sink": "siem"}
        return self.metrics.registry.get_sample_value(f"meshca_audit_sink_{name}", labels) or 0.0


@asynccontextmanager
async def sink_world(directory: Path) -> AsyncIterator[SinkWorld]:
    """Yield a world with an empty log."""
    clock = FakeClock()
    with sqlite_engine(directory) as engine:
        async with writer_of(engine, clock=clock, sinks={**SINKS, **SINK_SINKS}) as writer:
            yield SinkWorld(engine, writer, clock, open_name_locks(engine))


async def drain(feed: SinkFeed, steps: int = 50) -> None:
    """Step until nothing is left to do."""
    for _ in range(steps):
        if await feed.step() > 0:
            return
    raise AssertionError("the sink never came to its end")


def lost_by_siem(count: int, *, first: int, last: int) -> dict[str, Any]:
    """Return the details of the gap that the sink's loss is."""
    counts = {"unrecorded": count, "by_reason": {"refused": count}}
    return {"what": "delivery", **counts, "sink": "siem", "first": first, "last": last}
