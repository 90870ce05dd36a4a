"""What PostgreSQL needs so that recording stays fast: months made ahead, and a summarized index."""

from __future__ import annotations

from sqlalchemy import text

from identity.core.db import Database

MONTHS_AHEAD = 3


def make_partitions(database: Database) -> None:
    """Make the partitions of this month and the coming ones; a record without one is kept in its class's rest."""
    if not database.is_sqlite:
        with database.write() as connection:
            connection.execute(text("SELECT audit_make_partitions(:months)"), {"months": MONTHS_AHEAD})


def summarize(database: Database) -> None:
    """Tell the index on the writing transaction what came since autovacuum's last round: readers scan the rest."""
    if not database.is_sqlite:
        with database.write() as connection:
            connection.execute(text("SELECT audit_summarize()"))
