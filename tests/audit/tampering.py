"""What somebody who may write the database can do to the log, tree and all."""

from typing import Any

import orjson
import sqlalchemy as sa

from audit.merkle import Frontier, leaf_hash
from audit.tree import audit_entries, audit_nodes, write_growth

Rows = list[tuple[Any, ...]]
_SORTED = orjson.OPT_SORT_KEYS


def execute(engine: sa.Engine, statement: str, **values: object) -> None:
    """Run one statement in a transaction of its own."""
    with engine.connect().execution_options(meshca_writes=True) as connection, connection.begin():
        connection.execute(sa.text(statement), values)


def rebuild_tree(engine: sa.Engine) -> None:
    """Make tree and head those of the entries that are stored now."""
    with engine.connect().execution_options(meshca_writes=True) as connection, connection.begin():
        query = sa.select(audit_entries.c.leaf_hash).order_by(audit_entries.c.leaf_index)
        leaves = [bytes(row[0]) for row in connection.execute(query)]
        connection.execute(sa.delete(audit_nodes))
        write_growth(connection, *Frontier().extended(leaves))


def roll_back(engine: sa.Engine, size: int) -> None:
    """Cut the log to its first `size` entries, as a restored backup has it."""
    execute(engine, "DELETE FROM audit_entries WHERE leaf_index >= :size", size=size)
    rebuild_tree(engine)


def rewrite(engine: sa.Engine, at: int, **changes: object) -> None:
    """Change the body of one entry, and its leaf hash with it."""
    with engine.connect() as connection:
        query = sa.select(audit_entries.c.body).where(audit_entries.c.leaf_index == at)
        document = orjson.loads(connection.execute(query).scalar_one())
    body = orjson.dumps({**document, **changes}, option=orjson.OPT_SORT_KEYS)
    execute(
        engine,
        "UPDATE audit_entries SET body = :body, leaf_hash = :leaf WHERE leaf_index = :index",
        body=body.decode(),
        leaf=leaf_hash(body),
        index=at,
    )


def swap(engine: sa.Engine, one: int, other: int) -> None:
    """Let two entries change places; each then says that it is where it is."""
    with engine.connect() as connection:
        columns = sa.select(audit_entries.c.body, audit_entries.c.time, audit_entries.c.kind)
        found = {
            index: connection.execute(columns.where(audit_entries.c.leaf_index == index)).one()
            for index in (one, other)
        }
    for index, source in ((one, found[other]), (other, found[one])):
        body = orjson.dumps({**orjson.loads(source.body), "index": index}, option=_SORTED)
        execute(
            engine,
            "UPDATE audit_entries SET body = :body, leaf_hash = :leaf, time = :time, kind = :kind"
            " WHERE leaf_index = :index",
            body=body.decode(),
            leaf=leaf_hash(body),
            time=source.time,
            kind=source.kind,
            index=index,
        )


def copied(engine: sa.Engine, table: sa.Table) -> Rows:
    """Return the rows of `table`."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table))]


def put_back(engine: sa.Engine, table: sa.Table, rows: Rows) -> None:
    """Replace the rows of `table`."""
    with engine.connect().execution_options(meshca_writes=True) as connection, connection.begin():
        connection.execute(sa.delete(table))
        names = [column.name for column in table.columns]
        for row in rows:
            connection.execute(sa.insert(table).values(dict(zip(names, row, strict=True))))
