"""One or more replicas of staging over one real database, and what tests stage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from admin.staging_entries import staging_entry
from audit.query import Query, find
from authz.decision import Decision
from authz.engine import decide
from authz.policy import PolicySet
from authz.records.observed import Observed
from authz.request import Request
from authz.sources import PolicyLoader, PolicyOptions, PreparedChange
from authz.staging.parts import Staging, join
from authz.state import PolicyState
from authz.workload import Workload
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from tests.audit_table import undocumented
from tests.authz.builders import document, request, rule, to_yaml
from tests.fakes import FakeClock
from tests.stores import SINKS, documents

ALICE, BOB, CAROL = "uid:1001", "uid:1002", "uid:1003"
WINDOW = timedelta(minutes=5)
ORDERS = Workload("shop", {"app": "orders"})
ITEMS = Workload("stock", {"app": "items"})
EXPIRES = datetime(2026, 11, 1, 13, 0, 0, tzinfo=UTC)
"""An hour after a FakeClock begins."""

OPEN = to_yaml(
    document("all", "shop", rules=[{}]),
    document("all", "stock", rules=[{}]),
)
"""Everybody may call both namespaces."""
CLOSED = to_yaml(
    document("all", "shop", rules=[rule({"principals": ["example.org/ns/shop/sa/web"]})]),
    document("all", "stock", rules=[rule({"principals": ["example.org/ns/shop/sa/web"]})]),
)
"""Only `web` may."""


def break_glass(name: str = "oncall", *, principal: str = "example.org/ns/ops/sa/oncall") -> str:
    """Return a policy that lets on-call in, once it is approved, until EXPIRES."""
    written = document(name, "shop", action="ALLOW", rules=[rule({"principals": [principal]})])
    written["metadata"]["annotations"] = {
        "meshca.io/break-glass": "INC-7",
        "meshca.io/expires": EXPIRES.isoformat().replace("+00:00", "Z"),
    }
    return to_yaml(written)


@dataclass
class Replica:
    """One process, as far as policy goes."""

    staging: Staging
    loader: PolicyLoader
    writer: GroupWriter
    feed: ChangeFeed
    metrics: Metrics
    clock: Clock
    engine: sa.Engine

    @property
    def policies(self) -> PolicySet:
        """Return the set in force, with what lies over it."""
        return self.loader.state.current

    async def apply(self, text: str, *, author: str = ALICE) -> PreparedChange:
        """Apply a set."""

        async def record(prepared: PreparedChange) -> None:
            await self.writer.submit(prepared.applied)

        return await self.loader.apply(text, author=author, reason="test", record=record)

    def decide(self, sa_name: str = "guest", to: Workload = ORDERS) -> Decision:
        """Return the decision about a request of a peer now."""
        return decide(self.policies, self.asked(sa_name, to))

    def asked(self, sa_name: str = "guest", to: Workload = ORDERS) -> Request:
        """Return a request of a peer of the namespace `shop`, now."""
        made = request(f"example.org/ns/shop/sa/{sa_name}", destination=to)
        return replace(made, time=self.clock.now().timestamp())

    def observe(self, sa_name: str = "guest", to: Workload = ORDERS) -> None:
        """Let a proxy tell of a request that was decided as the set in force says."""
        asked = self.asked(sa_name, to)
        decision = decide(self.policies, asked)
        observed = Observed(
            request=asked,
            allowed=decision.allowed,
            decision=decision,
            at=self.clock.now(),
            door="access_log",
        )
        self.staging.watch.observe(observed)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(name, labels)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return the audit entries of a kind, oldest first."""
        found = find(self.engine, Query(kind=kind, oldest_first=True))
        return [dict(entry.body) for entry in found]


@asynccontextmanager
async def replica(
    engine: sa.Engine,
    *,
    clock: Clock | None = None,
    directory: Path | None = None,
    denials: int = 2,
    name: str = "one",
) -> AsyncIterator[Replica]:
    """Yield a replica that has started; its loops do not run."""
    clock, metrics, feed = clock or FakeClock(), Metrics(), ChangeFeed(engine)
    directories = () if directory is None else (directory,)
    loader = PolicyLoader(
        state=PolicyState(PolicySet.empty(trust_domain="example.org", root_namespace="meshca")),
        options=PolicyOptions("example.org", "meshca", "deny", directories),
        engine=engine,
        clock=clock,
        metrics=metrics,
        poll_seconds=0.05,
    )
    async with GroupWriter(engine, SINKS, clock, metrics) as writer:
        staging = join(
            loader,
            engine=engine,
            writer=writer,
            feed=feed,
            clock=clock,
            metrics=metrics,
            entry_of=staging_entry,
            denials=denials,
            window=WINDOW,
            replica=name,
        )
        loader.start()
        await staging.load()
        yield Replica(staging, loader, writer, feed, metrics, clock, engine)
    assert undocumented(documents(engine)) == []
