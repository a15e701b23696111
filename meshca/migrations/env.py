"""Alembic's entry: run on the connection that `meshca.schema.migrate` hands over."""

from alembic import context

from meshca.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
