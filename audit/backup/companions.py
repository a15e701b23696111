"""What belongs to the log beside its entries: rows of a few tables, as JSON and back.

Only these tables, only their columns, only values of their types: a backup cannot bring anything
else into the database. None of them holds a private key.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

from audit.backup.form import BackupRefused
from audit.checkpoints import audit_checkpoints
from audit.log_keys import audit_log_keys
from audit.retention.holds import audit_holds

COMPANIONS: Final[tuple[sa.Table, ...]] = (audit_checkpoints, audit_log_keys, audit_holds)
_BY_NAME: Final[Mapping[str, sa.Table]] = {table.name: table for table in COMPANIONS}


def companion_rows(connection: sa.Connection, size: int) -> Iterator[dict[str, Any]]:
    """Yield every row as a line of a backup holds it; checkpoints up to that of `size` entries."""
    for table in COMPANIONS:
        query = sa.select(table).order_by(*table.primary_key)
        if table is audit_checkpoints:
            query = query.where(audit_checkpoints.c.size <= size)
        for row in connection.execute(query):
            values = {str(name): _to_json(value) for name, value in row._mapping.items()}
            yield {"table": table.name, "row": values}


def insert_companion(connection: sa.Connection, document: Mapping[str, Any]) -> None:
    """Insert the row that a line holds; raises BackupRefused for anything else."""
    table = _BY_NAME.get(str(document.get("table")))
    row = document.get("row")
    if table is None or not isinstance(row, dict) or set(row) != set(table.columns.keys()):
        raise BackupRefused("malformed", "the backup has a row that belongs to no log")
    values = {name: _from_json(table.c[name], value) for name, value in row.items()}
    connection.execute(sa.insert(table).values(values))


def _to_json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | memoryview) else value


def _from_json(column: sa.Column[Any], value: Any) -> Any:
    if value is None and column.nullable:
        return None
    kind = column.type.python_type
    if kind is bytes and isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise BackupRefused("malformed", f"{column.name} is not in hex") from error
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BackupRefused("malformed", f"{column.name} is not what its column holds")
    return value
