"""Bring the database's tables to the version that this code needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect, text

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for our migrations, on this connection if one is given."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.attributes["connection"] = connection
    return settings


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run the missing revisions; two processes at once wait for each other."""
    with engine.connect() as connection:
        command.upgrade(config(connection), revision)
        connection.commit()


def downgrade(engine: Engine, revision: str) -> None:
    """Take revisions back."""
    with engine.connect() as connection:
        command.downgrade(config(connection), revision)
        connection.commit()


def without_partitions(connection: Connection) -> Callable[[str | None, str, Any], bool]:
    """Alembic's `include_name`: partitions are made while the product runs, and belong to their table."""
    names: set[str] = set()
    if connection.dialect.name == "postgresql":
        names.update(connection.execute(text("SELECT relname FROM pg_class WHERE relispartition")).scalars())
    return lambda name, kind, _: kind != "table" or name not in names


def is_current(engine: Engine) -> bool:
    """Whether the database has been migrated at all."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return connection.execute(text("SELECT version_num FROM alembic_version")).first() is not None
