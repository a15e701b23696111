"""Checking the stored log from its first entry to its last.

Each body must hash to its leaf and say its own index, time and kind; the leaves must make the
stored tiles and the stored head, and nothing may lie beyond it. A redacted entry has its leaf
only, and a later entry must say that it was redacted, at what time and of which kind it was.
Entries that are appended meanwhile are left to the next time, unless they are such redactions.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit.log import Head, microseconds
from audit.merkle import Frontier, Node
from audit.retention.columns import check_columns
from audit.retention.coverage import REDACTION, Coverage
from audit.tree import audit_nodes, read_frontier
from meshca.database import reading
from meshca.errors import EvidenceBroken

_PAGE: Final = 4_096
_FIRST_SCHEMA: Final = 1


@dataclass(slots=True)
class Verification:
    """One pass over the log; `coverage` has the entries without a body, and what says so.

    `progress` is called with the number of entries checked so far. `roots` gets the tree's root at
    each size in `stops`, which ascend, and `watched` the bodies of entries of the kind `watch`.
    """

    engine: sa.Engine
    progress: Callable[[int], None] | None = None
    stops: Sequence[int] = ()
    watch: str = ""
    coverage: Coverage = field(default_factory=Coverage)
    roots: dict[int, bytes] = field(default_factory=dict)
    watched: list[bytes] = field(default_factory=list)
    _frontier: Frontier = field(default_factory=Frontier)

    @property
    def redacted(self) -> list[range]:
        """Return the indexes of entries without a body, as ranges."""
        return [range(first, last + 1) for first, last in self.coverage.blank]

    def run(self) -> Head:
        """Check every entry and return the head that they lead to.

        Raises EvidenceBroken, naming the first entry that is not as it was written.
        """
        claimed = self._to_the_head()
        if self.coverage.uncovered():  # redacted while we read? What says so is there by now
            claimed = self._to_the_head()
        with reading(self.engine) as connection:
            _check_end(connection)
            self.coverage.check()
            check_columns(connection, self.coverage.redactions)
        return Head(claimed.size, claimed.root())

    def _to_the_head(self) -> Frontier:
        """Check the entries up to the head as it is now, and return that."""
        with reading(self.engine) as connection:
            claimed = read_frontier(connection)
        while self._frontier.size < claimed.size:
            stop = min(self._frontier.size + _PAGE, claimed.size)
            with reading(self.engine) as connection:
                self._take(connection, stop)
            if self.progress is not None:
                self.progress(stop)
        if self._frontier != claimed:
            raise EvidenceBroken(claimed.size, "the head is not that of the entries before it")
        return claimed

    def _take(self, connection: sa.Connection, stop: int) -> None:
        start = self._frontier.size
        rows = connection.exec_driver_sql(_page(start, stop)).all()
        leaves = [_checked(start + number, row) for number, row in enumerate(rows)]
        if len(rows) < stop - start:
            missing = start + len(rows)
            raise EvidenceBroken(missing, f"entry {missing} is missing, and all after it")
        for row in rows:
            if row[4] is None:
                self.coverage.heed(row[0], row[2], None)
            elif row[2] == REDACTION:
                self.coverage.heed(row[0], row[2], row[4].encode())
            elif row[2] == self.watch:
                self.watched.append(row[4].encode())
        _check_nodes(connection, self._extend(leaves))

    def _extend(self, leaves: Sequence[bytes]) -> list[Node]:
        """Append `leaves`, and look at the root of each size that is asked for on the way."""
        start, nodes = self._frontier.size, list[Node]()
        first, last = (bisect_right(self.stops, at) for at in (start, start + len(leaves)))
        for stop in (*self.stops[first:last], start + len(leaves)):
            part = leaves[self._frontier.size - start : stop - start]
            self._frontier, more = self._frontier.extended(part)
            nodes += more
            self.roots[stop] = self._frontier.root()
        return nodes


def verify(engine: sa.Engine) -> Head:
    """Check the whole log and return its head; raises EvidenceBroken as `Verification.run` does."""
    return Verification(engine).run()


def _page(start: int, stop: int) -> str:
    return (
        "SELECT leaf_index, time, kind, leaf_hash, body FROM audit_entries"  # noqa: S608  # numbers
        f" WHERE leaf_index >= {start} AND leaf_index < {stop} ORDER BY leaf_index"
    )


def _checked(expected: int, row: Sequence[Any]) -> bytes:
    """Return the leaf of a row; raises EvidenceBroken unless it is the entry `expected`."""
    index, time, kind, leaf, body = row
    if index != expected:
        raise EvidenceBroken(expected, f"entry {expected} is missing: {index} is next")
    leaf = bytes(leaf)
    if body is None:
        return leaf
    data = body.encode()
    if sha256(b"\x00" + data).digest() != leaf:
        raise EvidenceBroken(expected, f"the hash of entry {expected} does not match its body")
    document = orjson.loads(data)
    says = document["sequence"] - 1 if document["v"] == _FIRST_SCHEMA else document["index"]
    if says != expected:
        raise EvidenceBroken(expected, f"entry {expected} says that it is {says}")
    if document["kind"] != kind:
        raise EvidenceBroken(expected, f"column kind of entry {expected} differs from it")
    if microseconds(datetime.fromisoformat(document["time"])) != time:
        raise EvidenceBroken(expected, f"column time of entry {expected} differs from it")
    return leaf


def _check_nodes(connection: sa.Connection, nodes: Sequence[Node]) -> None:
    for level, position, made in nodes:
        c = audit_nodes.c
        query = sa.select(c.hash).where(c.level == level, c.position == position)
        stored = connection.execute(query).scalar_one_or_none()
        if stored is None or bytes(stored) != made:
            first = position << level
            raise EvidenceBroken(
                first, f"the stored tree is not that of entries {first} to {first + (1 << level)}"
            )


def _check_end(connection: sa.Connection) -> None:
    """Raise EvidenceBroken if there is an entry beyond the head."""
    query = "SELECT (SELECT size FROM audit_head), (SELECT max(leaf_index) FROM audit_entries)"
    size, last = connection.exec_driver_sql(query).one()
    if last is not None and last >= (size or 0):
        raise EvidenceBroken(size or 0, f"entry {last} lies beyond the head of {size or 0} entries")
