"""Letting old decision records go: a few rows a transaction, so that nobody waits for it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from authz.records.sinks import Expired, due
from meshca.clock import Clock
from meshca.database import GroupWriter, reading
from meshca.errors import Overloaded, StoreUnavailable
from meshca.logs import get_logger

LOOK_SECONDS: Final = 3600.0
PAUSE_SECONDS: Final = 0.05

log = get_logger("authz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Deletes decision records that are older than `keep`."""

    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    keep: timedelta

    async def run(self) -> None:
        """Look once an hour, until cancelled."""
        while True:
            try:
                await self.delete()
            except (Overloaded, StoreUnavailable) as error:
                log.warning("decision_records_kept_longer", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def delete(self) -> None:
        """Delete everything that is too old now; raises StoreUnavailable or Overloaded."""
        before = self.clock.now() - self.keep
        while await asyncio.to_thread(self._has_older, before):
            await self.writer.submit(Expired(before))
            await asyncio.sleep(PAUSE_SECONDS)

    def _has_older(self, before: datetime) -> bool:
        with reading(self.engine) as connection:
            return any(
                connection.execute(sa.select(table.c.id).where(column < bound).limit(1)).first()
                for table, column, bound in due(before)
            )
