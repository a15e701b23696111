"""Which stretch of the log holds all entries of a time.

Clocks are set back, so entries are not always in the order of their times. The stretch begins with
the first entry that is of the time and ends with the last; what lies between is exported whole, so
that it can be proved that nothing was left out.
"""

from datetime import datetime

import sqlalchemy as sa

from audit.query import Query, find


def stretch(engine: sa.Engine, since: datetime | None, until: datetime | None) -> range | None:
    """Return the indexes, or None if no entry is from `since` on and before `until`.

    Raises RequestRefused for times that cannot be, StoreUnavailable.
    """
    first = _end(engine, since, until, is_first=True)
    last = _end(engine, since, until, is_first=False)
    return None if first is None or last is None else range(first, last + 1)


def _end(
    engine: sa.Engine, since: datetime | None, until: datetime | None, *, is_first: bool
) -> int | None:
    cursor: int | None = None
    while True:
        query = Query(since=since, until=until, oldest_first=is_first, limit=1, cursor=cursor)
        page = find(engine, query)
        if len(page) or page.next is None:
            return page[0].index if len(page) else None
        cursor = page.next
