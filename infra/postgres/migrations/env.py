"""Alembic's entry: runs inside the connection that `infra.postgres.migrate` opened and locked."""

from alembic import context

from infra.postgres.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
