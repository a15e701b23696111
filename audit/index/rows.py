"""The entries that a small segment is made of, as the database has them."""

from collections.abc import Sequence

import sqlalchemy as sa

from audit.index.building import SMALL, Row
from audit.tree import audit_entries
from meshca.errors import Conflict


def read_rows(connection: sa.Connection, first: int) -> Sequence[Row]:
    """Return what `audit.index.building.build_small` makes the segment from `first` on of.

    Raises Conflict if the log lacks one of them.
    """
    c = audit_entries.c
    # As bytes where the driver would refuse text that a disk has garbled.
    is_sqlite = connection.dialect.name == "sqlite"
    body = sa.cast(c.body, sa.LargeBinary).label("body") if is_sqlite else c.body
    query = sa.select(c.time.label("time_us"), c.kind, body).order_by(c.leaf_index)
    rows = connection.execute(query.where(c.leaf_index.between(first, first + SMALL - 1))).all()
    if len(rows) != SMALL:
        raise Conflict(f"the log has no entry somewhere from {first} on")
    return rows
