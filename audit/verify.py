"""Checking the stored log from its first entry to its last.

Each body must hash to its leaf and say its own index, time and kind; the leaves must make the
stored tiles and the stored head, and nothing may lie beyond it. A redacted entry has its leaf
only, and a later entry must say that it was redacted, at what time and of which kind it was.
Entries that are appended meanwhile are left to the next time, unless they are such redactions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from audit.log import Head
from audit.merkle import Frontier, Node
from audit.retention.columns import check_columns
from audit.retention.coverage import Coverage
from audit.tree import read_frontier
from audit.verify_block import Block, Task, check_nodes, tasks
from audit.verify_workers import WORTH_IT, checking
from meshca.database import reading
from meshca.errors import EvidenceBroken


@dataclass(slots=True)
class Verification:
    """One pass over the log; `coverage` has the entries without a body, and what says so.

    `progress` is called with the number of entries checked so far. `roots` gets the tree's root at
    each size in `stops`, which ascend, and `watched` the bodies of entries of the kind `watch`.
    With more than one of `workers`, processes of their own read a log that is `worth_it` entries.
    """

    engine: sa.Engine
    progress: Callable[[int], None] | None = None
    stops: Sequence[int] = ()
    watch: str = ""
    workers: int = 1
    worth_it: int = WORTH_IT
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
        wanted = tasks(self._frontier.size, claimed.size, self.stops, self.watch)
        is_worth_it = claimed.size - self._frontier.size >= self.worth_it
        with checking(self.engine, self.workers if is_worth_it else 1) as check:
            for task, block in check(wanted):
                self._take(task, block)
                if self.progress is not None:
                    self.progress(task.stop)
        if self._frontier != claimed:
            raise EvidenceBroken(claimed.size, "the head is not that of the entries before it")
        return claimed

    def _take(self, task: Task, block: Block) -> None:
        """Lay `block` beside what came before."""
        for index, kind, body in block.heeded:
            self.coverage.heed(index, kind, body)
        self.watched += block.watched
        if block.leaves:
            nodes = self._extend(task, block.leaves)
        else:
            before, nodes = self._frontier, list[Node]()
            for frontier in block.frontiers:
                self._frontier, nodes = before.joined(frontier)
                self.roots[self._frontier.size] = self._frontier.root()
        with reading(self.engine) as connection:
            check_nodes(connection, 0, nodes)

    def _extend(self, task: Task, leaves: Sequence[bytes]) -> list[Node]:
        """Append `leaves` that begin inside a block, and look at the roots that are asked for."""
        nodes = list[Node]()
        for stop in (*task.stops, task.stop):
            begun = self._frontier.size - task.start
            self._frontier, more = self._frontier.extended(leaves[begun : stop - task.start])
            nodes += more
            self.roots[stop] = self._frontier.root()
        return nodes


def verify(engine: sa.Engine) -> Head:
    """Check the whole log and return its head; raises EvidenceBroken as `Verification.run` does."""
    return Verification(engine).run()


def _check_end(connection: sa.Connection) -> None:
    """Raise EvidenceBroken if there is an entry beyond the head."""
    query = "SELECT (SELECT size FROM audit_head), (SELECT max(leaf_index) FROM audit_entries)"
    size, last = connection.exec_driver_sql(query).one()
    if last is not None and last >= (size or 0):
        raise EvidenceBroken(size or 0, f"entry {last} lies beyond the head of {size or 0} entries")
