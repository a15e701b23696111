"""The parts of staging, joined."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from authz.sources import PolicyLoader
from authz.staging.emergencies import Emergencies
from authz.staging.events import STAGING_CHANGED
from authz.staging.forward_clock import ForwardClock
from authz.staging.live import LiveStaging
from authz.staging.operations import EntryOf, StagedChanges
from authz.staging.watch import CanaryWatch
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Staged changes and emergencies: what stands, what may be done, and who watches a canary.

    `load` before a door opens; `live.run` and `watch.run` are its loops.
    """

    live: LiveStaging
    changes: StagedChanges
    emergencies: Emergencies
    watch: CanaryWatch

    def load(self) -> Awaitable[None]:
        """Lay over policy what stands; raises StoreUnavailable."""
        return self.live.load()


def join(
    loader: PolicyLoader,
    *,
    engine: sa.Engine,
    writer: GroupWriter,
    feed: ChangeFeed,
    clock: Clock,
    metrics: Metrics,
    entry_of: EntryOf,
    denials: int,
    window: timedelta,
    replica: str,
) -> Staging:
    """Return the parts; `denials` pairs within `window` take a canary back."""
    live = LiveStaging(engine=engine, loader=loader, clock=ForwardClock(clock), metrics=metrics)
    changes = StagedChanges(live=live, writer=writer, entry_of=entry_of)
    emergencies = Emergencies(live=live, writer=writer, entry_of=entry_of)
    feed.subscribe(STAGING_CHANGED, live.heed)
    return Staging(
        live=live,
        changes=changes,
        emergencies=emergencies,
        watch=CanaryWatch(
            live=live,
            changes=changes,
            emergencies=emergencies,
            writer=writer,
            threshold=denials,
            window=window,
            replica=replica,
        ),
    )
