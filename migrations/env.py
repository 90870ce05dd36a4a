"""Alembic's environment: one revision chain for both databases."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text

from identity.core.migrate import without_partitions
from identity.core.settings import Settings
from identity.models import metadata

LOCK = 7_303_014_511


def run(connection: Connection) -> None:
    """Run the revisions on this connection, alone, and never waiting long for a lock of the running service."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        include_name=without_partitions(connection),
        user_module_prefix="db.",
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(Settings.from_env().owner_url).connect() as own:
        run(own)
