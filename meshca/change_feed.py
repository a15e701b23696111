"""Hearing of what other processes have changed in the database, as soon as it is committed.

    a Sink:    announce(connection, "authorities")     in the transaction of the change
    elsewhere: feed.subscribe("authorities", callback)

Each kind of change has a number in the table `changes`, and the feed compares. On PostgreSQL a
NOTIFY says when to look (LISTEN), so that a change arrives in milliseconds; on SQLite it looks four
times a second. Both look every few seconds anyway: a notification may be lost with its connection.
A callback says "look again", never what has changed, and may come once for many changes, or for
our own.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg
import sqlalchemy as sa

from meshca.database import metadata, reading
from meshca.errors import StoreUnavailable
from meshca.logs import get_logger

CHANNEL: Final = "meshca"
LOOK_SECONDS: Final = 5.0
SQLITE_LOOK_SECONDS: Final = 0.25
_RECONNECT_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 5

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

log = get_logger("database")


def announce(connection: sa.Connection, kind: str) -> int:
    """Let everybody hear of a change of `kind`, once the transaction of `connection` commits.

    Return the number of the change. Whoever announces the same kind waits until then, so that
    numbers are committed in their order.
    """
    statement = (
        "INSERT INTO changes (kind, number) VALUES (:kind, 1)"
        " ON CONFLICT (kind) DO UPDATE SET number = changes.number + 1 RETURNING number"
    )
    number = connection.execute(sa.text(statement), {"kind": kind}).scalar_one()
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT pg_notify(:channel, :kind)"), {"channel": CHANNEL, "kind": kind}
        )
    return int(number)


@dataclass(slots=True)
class ChangeFeed:
    """Calls back, on the event loop, after changes; `run` is its loop."""

    engine: sa.Engine
    _subscribers: dict[str, list[Callable[[], None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _numbers: Mapping[str, int] | None = None
    _connection: psycopg.AsyncConnection | None = None

    def subscribe(self, kind: str, callback: Callable[[], None]) -> None:
        """Call `callback` after changes of `kind`."""
        self._subscribers[kind].append(callback)

    async def run(self) -> None:
        """Listen until cancelled; a database that is away is waited for."""
        try:
            while True:
                try:
                    await self.look()
                    await self._wait()
                except (StoreUnavailable, psycopg.Error, OSError) as error:
                    log.warning("change_feed_interrupted", error=str(error).split("\n", 1)[0])
                    await self._hang_up()
                    await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            await self._hang_up()

    async def look(self) -> None:
        """Compare the numbers with those of the last look; raises StoreUnavailable."""
        numbers = await asyncio.to_thread(self._read)
        before, self._numbers = self._numbers, numbers
        if before is None:
            return  # who subscribes reads everything at start
        for kind, number in numbers.items():
            if number != before.get(kind):
                for callback in tuple(self._subscribers[kind]):
                    callback()

    def _read(self) -> dict[str, int]:
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(changes.c.kind, changes.c.number))
            return {str(kind): int(number) for kind, number in rows}

    async def _wait(self) -> None:
        """Wait until there may be something new."""
        if self.engine.dialect.name != "postgresql":
            await asyncio.sleep(SQLITE_LOOK_SECONDS)
            return
        if self._connection is None:
            self._connection = await self._listen()
            return  # what came before we listened is seen by the next look
        async for _ in self._connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
            pass

    async def _listen(self) -> psycopg.AsyncConnection:
        _, arguments = self.engine.dialect.create_connect_args(self.engine.url)
        connection = await psycopg.AsyncConnection.connect(
            **{"connect_timeout": _CONNECT_SECONDS, **arguments}, autocommit=True
        )
        await connection.execute(f"LISTEN {CHANNEL}")
        return connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
