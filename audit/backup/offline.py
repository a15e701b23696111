"""Being alone with a database: no server runs on it while we change what only we may change."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from meshca.errors import Conflict
from meshca.name_locks import open_name_locks

_OF_ANY_SERVER: Final = ("leader", "audit-signer", "audit-retention")
"""Of the servers on a database one holds each of these names (rotation/membership.py)."""


@contextlib.contextmanager
def alone(engine: sa.Engine, names: Sequence[str] = ()) -> Iterator[None]:
    """Hold the names of every server, and `names`, for as long as the context lasts.

    Raises Conflict when a server holds one, and StoreUnavailable.
    """
    locks = open_name_locks(engine)
    try:
        for name in (*_OF_ANY_SERVER, *names):
            if not locks.hold(name):
                raise Conflict(f"a server runs on this database (it holds {name!r}): stop it first")
        yield
    finally:
        locks.close()
