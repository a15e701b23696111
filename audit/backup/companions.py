"""What belongs to the log beside its entries: rows of a few tables, as JSON and back.

Only these tables, only their columns, only values of their types: a backup cannot bring anything
else into the database. None of them holds a private key. Holds and keys are what the entries say
(audit/backup/told.py); a checkpoint has its signature and the tree.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from audit.backup.form import BackupRefused
from audit.backup.told import Told
from audit.checkpoint import parse_checkpoint
from audit.checkpoints import audit_checkpoints
from audit.log_keys import audit_log_keys
from audit.merkle import root_at
from audit.note import NoteRefused, VerifierKey, parse_note
from audit.retention.holds import audit_holds
from audit.tree import StoredTree

COMPANIONS: Final[tuple[sa.Table, ...]] = (audit_checkpoints, audit_log_keys, audit_holds)
_BY_NAME: Final[Mapping[str, sa.Table]] = {table.name: table for table in COMPANIONS}


def companion_rows(connection: sa.Connection, size: int, told: Told) -> Iterator[dict[str, Any]]:
    """Yield every row as a line of a backup holds it, as of the log of `size` entries.

    `told` has heard these entries.
    """
    c = audit_checkpoints.c
    query = sa.select(audit_checkpoints).where(c.size <= size).order_by(c.origin, c.size)
    for row in connection.execute(query):
        values = {str(name): _to_json(value) for name, value in row._mapping.items()}
        yield {"table": audit_checkpoints.name, "row": values}
    yield from told.rows()


def insert_companion(connection: sa.Connection, document: Mapping[str, Any]) -> None:
    """Insert the row that a line holds; raises BackupRefused for anything else."""
    table = _BY_NAME.get(str(document.get("table")))
    row = document.get("row")
    if table is None or not isinstance(row, dict) or set(row) != set(table.columns.keys()):
        raise BackupRefused("malformed", "the backup has a row that belongs to no log")
    values = {name: _from_json(table.c[name], value) for name, value in row.items()}
    connection.execute(sa.insert(table).values(values))


def check_checkpoints(
    connection: sa.Connection, size: int, told: Told, keys: Sequence[VerifierKey]
) -> None:
    """Raise BackupRefused unless every checkpoint in the database is one of its log.

    That is: the tree agrees, which has `size` entries, and a key that counted then has signed, of
    those that the entries in `told` name and of `keys`.
    """
    for row in connection.execute(sa.select(audit_checkpoints)).all():
        try:
            is_right = _is_right(connection, row, size, told, keys)
        except NoteRefused as error:
            message = f"a checkpoint in the backup is not signed by the log: {error}"
            raise BackupRefused("changed", message) from error
        if not is_right:
            message = f"a checkpoint in the backup, of {row.size} entries, is not of its log"
            raise BackupRefused("changed", message)


def _is_right(
    connection: sa.Connection,
    row: sa.Row[Any],
    size: int,
    told: Told,
    keys: Sequence[VerifierKey],
) -> bool:
    """Return whether the tree agrees with a kept checkpoint; raises NoteRefused."""
    note = parse_note(row.note)
    checkpoint = parse_checkpoint(note.text)
    history = told.history(checkpoint.origin)
    history.signers(checkpoint, note, {*history.introduced, *keys})
    signers = {signature.key_id.hex() for signature in note.signatures}
    return (
        (checkpoint.origin, checkpoint.size) == (row.origin, row.size)
        and row.size <= size
        and set(row.keys.split(",")) == signers
        and root_at(row.size, StoredTree(connection).hash_at) == checkpoint.root
    )


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
