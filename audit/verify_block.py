"""Checking one run of entries: each against its leaf and its columns, and the tree above them.

A block begins where a complete subtree of BLOCK leaves does, so that what it comes to can be laid
beside what others come to, in whichever process they were checked. Pages bound what is in memory.

Most bodies are looked at without parsing them: in canonical JSON the last `"index":` and the last
`"time":"` are those of the top level, since only text follows, in which quotes are escaped. What
does not look as expected is parsed, and named.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit.log import checked_body, hash_differs, microseconds
from audit.merkle import HASH_BYTES, Frontier, Node
from audit.retention.coverage import REDACTION
from audit.tree import audit_nodes
from meshca.errors import EvidenceBroken, StoreUnavailable

BLOCK_LEVEL: Final = 16
BLOCK: Final = 1 << BLOCK_LEVEL
_PAGE: Final = 4_096
_FIRST_SCHEMA: Final = 1
_END: Final = b'Z","v":2}'
_NO_END: Final = b"\0"

Heeded = tuple[int, str, bytes | None]
"""An entry without a body, or one that says which have none: index, kind, body."""


@dataclass(frozen=True, slots=True)
class Task:
    """Entries [start, stop) to check; which roots on the way, and whose bodies, are wanted."""

    start: int
    stop: int
    stops: tuple[int, ...] = ()
    watch: str = ""


@dataclass(slots=True)
class Block:
    """What the entries of a task come to, when all are as they were written.

    `frontiers` are those of the leaves from `start` on, as if the tree began there: at each of the
    task's stops, and at its end. Of a run that begins inside a block there are `leaves` instead.
    """

    start: int
    frontiers: list[Frontier] = field(default_factory=list)
    heeded: list[Heeded] = field(default_factory=list)
    watched: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)


def tasks(start: int, stop: int, stops: Sequence[int], watch: str) -> Iterator[Task]:
    """Yield what to check of [start, stop), a block or less at a time; `stops` ascend."""
    while start < stop:
        last = min((start // BLOCK + 1) * BLOCK, stop)
        wanted = tuple(stops[bisect_right(stops, start) : bisect_left(stops, last)])
        yield Task(start, last, wanted, watch)
        start = last


def check_block(connection: sa.Connection, task: Task) -> Block:
    """Return what the entries of `task` come to; raises EvidenceBroken for the first that is wrong.

    The stored nodes of the tree over them are compared too, of a block that begins a subtree.
    """
    reader = _Reader(connection, task.watch)
    block, frontier = Block(task.start), Frontier()
    nodes: list[Node] = []
    for start in range(task.start, task.stop, _PAGE):
        stop = min(start + _PAGE, task.stop)
        leaves = reader.read(start, stop, block)
        if task.start % BLOCK:
            block.leaves += leaves
            continue
        for cut in (*(cut for cut in task.stops if start < cut < stop), stop):
            begun = frontier.size + task.start - start
            frontier, more = frontier.extended(leaves[begun : cut - start])
            nodes += more
            if cut in task.stops:
                block.frontiers.append(frontier)
    block.frontiers.append(frontier)
    check_nodes(connection, task.start, nodes)
    return block


def check_nodes(connection: sa.Connection, start: int, nodes: Sequence[Node]) -> None:
    """Compare `nodes`, as if the tree began at leaf `start`, with those stored.

    Raises EvidenceBroken for one that is missing or another.
    """
    c = audit_nodes.c
    for level in sorted({level for level, _, _ in nodes}):
        shift = start >> level
        made = {position + shift: root for at, position, root in nodes if at == level}
        query = sa.select(c.position, c.hash).where(
            c.level == level, c.position >= min(made), c.position <= max(made)
        )
        stored = {row[0]: bytes(row[1]) for row in connection.execute(query)}
        for position, root in made.items():
            if stored.get(position) != root:
                first, last = position << level, (position + 1) << level
                text = f"the stored tree is not that of entries {first} to {last}"
                raise EvidenceBroken(first, text)


@dataclass(slots=True)
class _Reader:
    """Reads pages of entries and checks each; remembers texts of times, and kinds as JSON."""

    connection: sa.Connection
    watch: str
    seconds: dict[int, bytes] = field(default_factory=dict)
    kinds: dict[str, bytes] = field(default_factory=dict)

    def read(self, start: int, stop: int, block: Block) -> list[bytes]:
        """Return the leaves of [start, stop); tell `block` of what is wanted of them."""
        leaves: list[bytes] = []
        for expected, (index, time, kind, leaf, body) in enumerate(self._rows(start, stop), start):
            if index != expected:
                raise EvidenceBroken(expected, f"entry {expected} is missing: {index} is next")
            if body is None:
                if type(leaf) is not bytes or len(leaf) != HASH_BYTES:
                    raise EvidenceBroken(index, f"entry {index} has neither a body nor a hash")
                block.heeded.append((index, kind, None))
            else:
                data = body if type(body) is bytes else body.encode()
                if sha256(b"\x00" + data).digest() != leaf:
                    raise hash_differs(index)
                if not self._says(data, index, time, kind):
                    _check_parsed(index, time, kind, data)
                if kind == REDACTION:
                    block.heeded.append((index, kind, data))
                elif kind == self.watch:
                    block.watched.append(data)
            leaves.append(leaf)
        if len(leaves) < stop - start:
            missing = start + len(leaves)
            raise EvidenceBroken(missing, f"entry {missing} is missing, and all after it")
        return leaves

    def _rows(self, start: int, stop: int) -> Sequence[Sequence[Any]]:
        is_sqlite = self.connection.dialect.name == "sqlite"
        body = "CAST(body AS BLOB)" if is_sqlite else "body"
        query = (
            f"SELECT leaf_index, time, kind, leaf_hash, {body} FROM audit_entries"  # noqa: S608  # numbers
            f" WHERE leaf_index >= {start} AND leaf_index < {stop} ORDER BY leaf_index"
        )
        cursor = self.connection.exec_driver_sql(query).cursor
        assert cursor is not None  # noqa: S101  # a SELECT has one
        try:
            return cursor.fetchall()  # plain tuples: a Row each would cost as much as its hash
        except self.connection.dialect.loaded_dbapi.Error as error:  # past SQLAlchemy, its own
            raise StoreUnavailable(f"the database does not answer: {error}") from error

    def _says(self, data: bytes, index: int, time: int, kind: str) -> bool:
        """Return whether `data` plainly says what the columns say; False decides nothing."""
        named = b'"index":%d,"kind":%b,' % (index, self.kinds.get(kind) or self._quoted(kind))
        return data.endswith(self._end(time)) and data.startswith(named, data.rfind(b'"index":'))

    def _quoted(self, kind: str) -> bytes:
        """Return a kind as JSON has it, so that no column passes for the text around a kind."""
        try:
            quoted = self.kinds[kind] = orjson.dumps(kind)
        except TypeError:  # SQLite keeps bytes too: no body has such a kind
            return b""
        return quoted

    def _end(self, time: int) -> bytes:
        """Return how a body of `time` ends; of what is no time, how none does."""
        try:
            second, fraction = divmod(time, 1_000_000)
            begin = self.seconds.get(second) or self._begin(second)
        except (TypeError, ValueError, OverflowError, OSError):  # SQLite keeps anything
            return _NO_END
        return b"%b.%06d%b" % (begin, fraction, _END) if fraction else begin + _END

    def _begin(self, second: int) -> bytes:
        text = datetime.fromtimestamp(second, UTC).strftime('"time":"%Y-%m-%dT%H:%M:%S').encode()
        self.seconds[second] = text
        return text


def check_entry(index: int, time: int, kind: str, leaf: bytes, body: str) -> None:
    """Raise EvidenceBroken unless `body` is that of `leaf` and says what the columns say.

    What decides by columns about a single entry asks this first: columns are not in the tree.
    """
    _check_parsed(index, time, kind, checked_body(index, body, leaf))


def _check_parsed(index: int, time: int, kind: str, data: bytes) -> None:
    """Raise EvidenceBroken, saying what differs, unless the body says what the columns say."""
    try:
        document = orjson.loads(data)
        is_first = document["v"] == _FIRST_SCHEMA
        says = document["sequence"] - 1 if is_first else document["index"]
        said_time = microseconds(datetime.fromisoformat(document["time"]))
        said_kind = document["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise EvidenceBroken(index, f"entry {index} is no entry: {error!r}") from error
    if says != index:
        raise EvidenceBroken(index, f"entry {index} says that it is {says}")
    if said_kind != kind:
        raise EvidenceBroken(index, f"column kind of entry {index} differs from it")
    if said_time != time:
        raise EvidenceBroken(index, f"column time of entry {index} differs from it")
