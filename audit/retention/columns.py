"""What is left of redacted entries, their times and kinds, against what their redactions say."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

import sqlalchemy as sa

from audit.retention.coverage import Column, Redaction, columns_digest
from audit.tree import audit_entries
from meshca.errors import EvidenceBroken

_ROWS: Final = 1_000


def check_columns(connection: sa.Connection, redactions: Iterable[Redaction]) -> None:
    """Raise EvidenceBroken, naming a redaction, if what it left is not what it says it left."""
    for redaction in redactions:
        if columns_digest(_columns(connection, redaction)) != redaction.columns_sha256:
            first, _ = next(iter(redaction.ranges), (redaction.index, redaction.index))
            message = f"times or kinds of entries from {first} on, redacted by {redaction.index},"
            raise EvidenceBroken(first, f"{message} are not as they were left")


def _columns(connection: sa.Connection, redaction: Redaction) -> Iterator[Column]:
    c = audit_entries.c
    indexes = chain.from_iterable(range(first, last + 1) for first, last in redaction.ranges)
    while some := list(islice(indexes, _ROWS)):
        query = sa.select(c.leaf_index, c.time, c.kind).where(c.leaf_index.in_(some))
        for row in connection.execute(query.order_by(c.leaf_index)):
            yield row.leaf_index, row.time, row.kind
