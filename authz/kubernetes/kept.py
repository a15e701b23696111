"""The last good objects of Kubernetes, in the database: for a start while the API server is away.

One row an object, of every source by name; the row without a name says that the source was read
whole, and when. Replicas write the same rows: what they write follows one API server, so that they
agree in the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from meshca.database import metadata, reading

_READ = ""
_DELETED_AT_ONCE = 500

policy_objects = sa.Table(
    "policy_objects",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class KeptObjects:
    """What has changed of the last good objects of `source`: texts by name, and names gone."""

    source: str
    put: Mapping[str, str]
    gone: frozenset[str]
    time: str


class KeptObjectsSink:
    """Writes the rows that changed."""

    def write(self, connection: sa.Connection, records: Sequence[KeptObjects]) -> None:
        """Replace what is put, delete what is gone, and say that the source was read whole."""
        for record in records:
            gone = sorted({*record.gone, *record.put, _READ})
            for start in range(0, len(gone), _DELETED_AT_ONCE):
                names = gone[start : start + _DELETED_AT_ONCE]
                where = policy_objects.c.source == record.source
                connection.execute(
                    policy_objects.delete().where(where, policy_objects.c.name.in_(names))
                )
            rows = {**record.put, _READ: record.time}
            connection.execute(
                policy_objects.insert(),
                [{"source": record.source, "name": n, "text": t} for n, t in rows.items()],
            )


def read_kept(engine: sa.Engine, source: str) -> dict[str, str] | None:
    """Return the last good objects of `source` by name, or None when it was never read whole.

    Raises StoreUnavailable.
    """
    columns = (policy_objects.c.name, policy_objects.c.text)
    with reading(engine) as connection:
        rows = connection.execute(sa.select(*columns).where(policy_objects.c.source == source))
        found = {str(name): str(text) for name, text in rows}
    return None if found.pop(_READ, None) is None else found


KEPT_SINKS: Mapping[type, KeptObjectsSink] = {KeptObjects: KeptObjectsSink()}
