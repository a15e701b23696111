"""A stretch of the log, read from the log itself and held to what was signed.

For answers that say "this is all": an index of whatever kind can be made to leave out, and is not
asked. Which entries are of a time their column says, which is one look at every row. Whoever
changed that column hides nothing between the two ends of a stretch, and is noticed at them: the
entries beside it must say themselves that they are of another time. Further out looks
`audit.examination` only.
"""

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from audit.checkpoint import Checkpoint
from audit.log import Log, Stored, microseconds
from audit.range_proof import Row, range_hashes
from audit.tree import StoredTree, audit_entries, read_frontier
from audit.verify_block import check_entry
from meshca.database import reading
from meshca.errors import EvidenceBroken

_AT_ONCE = 4_096


def stretch_of(engine: sa.Engine, since: datetime, until: datetime) -> range:
    """Return the indexes from the first entry of `since` or later to the last before `until`.

    Of clocks that agree these are the entries of the time; of others it has more, and lacks none.
    Raises StoreUnavailable. It takes a minute for ten million entries.
    """
    c = audit_entries.c
    first = sa.func.min(sa.case((c.time >= microseconds(since), c.leaf_index)))
    last = sa.func.max(sa.case((c.time < microseconds(until), c.leaf_index)))
    with reading(engine) as connection:
        size = read_frontier(connection).size
        low, high = connection.execute(sa.select(first, last)).one()
    start = size if low is None else min(low, size)
    return range(start, max(start, min(0 if high is None else high + 1, size)))


def read_stretch(log: Log, stretch: range, signed: Checkpoint | None) -> Iterator[Stored]:
    """Yield the entries of `stretch` in order, and hold them to the root that was `signed`.

    Believe them when the iterator has ended: only then it is known that they are all. Raises
    EvidenceBroken when they are not those that lead to that root, and StoreUnavailable.
    """
    for beside in log.get([stretch.start - 1, stretch.stop]):
        if beside.body is not None:
            check_entry(*_columns(beside), beside.body.decode())
    row = Row(stretch.start)
    leaves: list[bytes] = []
    for stored in log.entries(stretch.start, stretch.stop):
        leaves.append(stored.leaf_hash)
        yield stored
        if len(leaves) == _AT_ONCE:
            row.extend(leaves)
            leaves = []
    row.extend(leaves)
    if row.stop != stretch.stop or (signed is not None and not _is_signed(log, row, signed)):
        text = (
            f"entries {stretch.start} to {stretch.stop} are not those that were signed: "
            "`meshca audit verify` names the first that is wrong"
        )
        raise EvidenceBroken(stretch.start, text)


def _columns(stored: Stored) -> tuple[int, int, str, bytes]:
    return stored.index, stored.time_us, stored.kind, stored.leaf_hash


def _is_signed(log: Log, row: Row, signed: Checkpoint) -> bool:
    """Return whether `row`, and what stands for the entries around it, has the signed root."""
    whole = Row()
    with reading(log.engine) as connection:
        hash_at = StoredTree(connection).hash_at
        whole.skip(row.start, range_hashes(0, row.start, hash_at))
        for level, _, root in row.nodes():
            whole.add(level, root)
        whole.skip(signed.size, range_hashes(row.stop, signed.size, hash_at))
    return whole.root() == signed.root
