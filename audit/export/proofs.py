"""What leads from older keys of the log to those that signed an export's checkpoint."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from audit.checkpoints import Kept, audit_checkpoints, checkpoint_of
from audit.export.json_lines import KeyEntry, Step
from audit.key_history import LOG_KEY_KIND
from audit.log import Log
from audit.query import MAXIMUM_LIMIT, Query, find
from meshca.database import reading


def keys_and_steps(log: Log, kept: Kept) -> tuple[list[KeyEntry], list[Step]]:
    """Return the entries about keys, and the newest checkpoint of each set of keys before.

    Raises StoreUnavailable, EvidenceBroken.
    """
    size = kept.size
    entries = [
        KeyEntry(stored.index, stored.body.decode(), tuple(log.inclusion_proof(stored.index, size)))
        for stored in log.get([index for index in _key_indexes(log.engine) if index < size])
        if stored.body is not None
    ]
    steps = [
        Step(before.note, tuple(log.consistency_proof(before.size, size)))
        for before in _newest_of_each(log.engine, kept)
    ]
    return entries, steps


def _key_indexes(engine: sa.Engine) -> Iterator[int]:
    cursor: int | None = None
    while True:
        query = Query(kind=LOG_KEY_KIND, oldest_first=True, limit=MAXIMUM_LIMIT, cursor=cursor)
        page = find(engine, query)
        yield from (found.index for found in page)
        if page.next is None:
            return
        cursor = page.next


def _newest_of_each(engine: sa.Engine, kept: Kept) -> Sequence[Kept]:
    """Return the newest checkpoint that each set of keys signed, but not the set of `kept`."""
    c = audit_checkpoints.c
    newest = sa.select(sa.func.max(c.size)).where(c.origin == kept.origin, c.size <= kept.size)
    with reading(engine) as connection:
        sizes = sorted(connection.execute(newest.group_by(c["keys"])).scalars())
    found = (checkpoint_of(engine, kept.origin, size) for size in sizes if size < kept.size)
    return [one for one in found if one is not None]
