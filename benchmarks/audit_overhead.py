"""What the audit log adds to issuance: the same SVIDs with it and without it, in turns.

Without it, entries are made and thrown away; all else is what `meshca serve` builds. What is done
behind the appends, by the same process and later, is the index: it is measured with them.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType

import sqlalchemy as sa
import uvloop

from audit.entry import Entry
from audit.log import EntrySink
from benchmarks.development import temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.issuance import Issue, Spent, crowd, csr_path, running
from ca.store import Planned, PlannedSink
from meshca.wiring import Service

TITLE = "What the audit log adds to issuance"
TARGET = Target(10.0, is_minimum=False)
IN_FLIGHT = 64
COUNT = 1_024


class _NoLog(EntrySink):
    """Takes entries as a log would, and keeps none."""

    def append(self, connection: sa.Connection, entries: Sequence[Entry]) -> range:
        return range(len(entries))


@dataclass(slots=True)
class _Rounds:
    """CPU microseconds of an SVID, round by round; `added` are those of the log as a share."""

    bare: list[float] = field(default_factory=list)
    logged: list[float] = field(default_factory=list)
    indexed: list[float] = field(default_factory=list)

    def added(self, what: Sequence[float]) -> float:
        """Return by how many percent `what` is above the round without a log, in the median."""
        return median(100 * (w / b - 1) for w, b in zip(what, self.bare, strict=True))


def run(context: Context) -> Iterator[Row]:
    """Issue in turns without a log, with it, and with the index of what was logged."""
    rounds, count = context.scale(40, 6), COUNT
    with (
        temporary() as development,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        running(runner, development) as service,
        context.progress("rounds", rounds) as advance,
    ):
        issue, spent = csr_path(service), _Rounds()
        runner.run(crowd(issue, count, IN_FLIGHT))
        runner.run(service.audit.indexer.look())
        for number in range(rounds):
            _round(runner, service, issue, count, spent)
            advance(number + 1)
    yield Row("SVIDs without a log", median(spent.bare), "µs CPU")
    for what, each in (("with it", spent.logged), ("with it and its index", spent.indexed)):
        added = f"{spent.added(each):+.1f} %, median of {rounds} rounds"
        yield Row(f"SVIDs {what}", median(each), "µs CPU", note=added)
    yield Row("the log adds", spent.added(spent.logged), "%", target=TARGET)


def _round(
    runner: asyncio.Runner, service: Service, issue: Issue, count: int, spent: _Rounds
) -> None:
    spent.bare.append(_spent(runner, service, issue, count, _NoLog()).cpu_us)
    logged = _spent(runner, service, issue, count, EntrySink())
    indexing = runner.run(_indexing(service))
    spent.logged.append(logged.cpu_us)
    spent.indexed.append(logged.cpu_us + indexing / count * 1e6)


def _spent(
    runner: asyncio.Runner, service: Service, issue: Issue, count: int, log: EntrySink
) -> Spent:
    service.writer.sinks = MappingProxyType({**service.writer.sinks, Planned: PlannedSink(log)})
    return runner.run(crowd(issue, count, IN_FLIGHT))


async def _indexing(service: Service) -> float:
    """Index what was logged; return the CPU seconds of it."""
    began = time.process_time()
    await service.audit.indexer.look()
    return time.process_time() - began
