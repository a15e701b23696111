"""A backup straight from the database, without a server: on record as any reading of evidence."""

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from audit.backup.pack import Backup
from audit.entry import Entry
from audit.log import EntrySink
from meshca.errors import StoreUnavailable


def direct_backup(engine: sa.Engine, origin: str, *, actor: str, now: datetime) -> Iterator[bytes]:
    """Yield the bytes of a backup, once the log says who takes it; raises as `Backup.chunks`.

    Raises StoreUnavailable, before any byte, when that cannot be recorded.
    """
    entry = Entry(
        time=now,
        kind="read",
        outcome="done",
        actor=actor,
        details={"route": "meshca audit backup --direct"},
    )
    try:
        writes = engine.connect().execution_options(meshca_writes=True)
        with writes as connection, connection.begin():
            EntrySink().append(connection, [entry])
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable("the backup cannot be put on record, so there is none") from error
    yield from Backup(engine, origin, now).chunks()
