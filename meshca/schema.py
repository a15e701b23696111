"""The schema: migrations bring it to the version that this program was written for."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from meshca.database import cause, describe
from meshca.errors import StoreUnavailable


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the version this program was written for.

    Raises StoreUnavailable when the database is read-only, full, or newer than this program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with (
            engine.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            if engine.dialect.name == "postgresql":  # replicas may start together
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1835365223)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (sa.exc.SQLAlchemyError, CommandError) as error:
        raise StoreUnavailable(
            f"cannot migrate {describe(str(engine.url))}: {cause(error)}"
        ) from error
