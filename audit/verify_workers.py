"""Checking blocks of the log in this process, or in several of their own.

Each worker opens the database by itself, at a lower priority than the service, so that a check of
ten million entries takes no time from issuing: neither the core's nor the interpreter's lock.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Final

import sqlalchemy as sa

from audit.verify_block import BLOCK, Block, Task, check_block
from meshca.database import open_engine, reading
from meshca.errors import EvidenceBroken, MeshcaError, StoreUnavailable
from meshca.logs import get_logger

WORTH_IT: Final = 4 * BLOCK
"""Below so many entries, starting processes takes longer than checking."""
NICENESS: Final = 10
MOST: Final = 4

log = get_logger("audit")

Check = Callable[[Iterable[Task]], Iterator[tuple[Task, Block]]]
_Broken = tuple[int, str]

_engines: list[sa.Engine] = []
"""In a worker: the engine that its process was started with. A worker has no other state."""


@contextmanager
def checking(engine: sa.Engine, workers: int) -> Iterator[Check]:
    """Yield what checks tasks, in their order; one worker is this process itself.

    It raises EvidenceBroken for the first entry that is not as it was written, StoreUnavailable
    when the database, or a worker, is away.
    """
    pool = None if workers < 2 else _pool(engine, workers)
    if pool is None:
        yield lambda wanted: ((task, _check_here(engine, task)) for task in wanted)
        return
    try:
        yield lambda wanted: _check_there(pool, list(wanted))
    except BrokenProcessPool as error:
        raise StoreUnavailable("a process that was checking the log has ended") from error
    finally:
        pool.shutdown(cancel_futures=True)


def processes() -> int:
    """Return how many processes are worth starting here: at least one beside this one's loop."""
    return min(MOST, max(2, len(os.sched_getaffinity(0))))


def _pool(engine: sa.Engine, workers: int) -> ProcessPoolExecutor | None:
    """Return the processes, which start with the first task; None where there can be none."""
    try:
        return ProcessPoolExecutor(
            workers,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(engine.url.render_as_string(hide_password=False),),
        )
    except OSError as error:  # no shared memory for their locks
        log.warning("verifying_in_this_process", error=str(error))
        return None


def _check_here(engine: sa.Engine, task: Task) -> Block:
    with reading(engine) as connection:
        return check_block(connection, task)


def _check_there(pool: ProcessPoolExecutor, wanted: list[Task]) -> Iterator[tuple[Task, Block]]:
    for task, found in zip(wanted, pool.map(_work, wanted), strict=True):
        if isinstance(found, str):
            raise StoreUnavailable(found)
        if isinstance(found, tuple):
            raise EvidenceBroken(*found)
        yield task, found


def _begin(url: str) -> None:
    os.nice(NICENESS)
    _engines.append(open_engine(url))


def _work(task: Task) -> Block | _Broken | str:
    """Return the block, or what is wrong: errors of ours do not travel between processes."""
    try:
        return _check_here(_engines[0], task)
    except EvidenceBroken as error:
        return error.index, str(error)
    except MeshcaError as error:
        return str(error)
