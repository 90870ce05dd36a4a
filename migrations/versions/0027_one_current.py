"""One primary employment of an identity and one control of a conflict are known at a time.

Where two were (two changes at the same time, or twice in one), the one that was said last stays."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from identity.core.db import UtcDateTime

revision = "0027_one_current"
down_revision = "0026_restored"
branch_labels = None
depends_on = None

ONE = {
    "uq_employment_primary": ("employment", ["user_id"], "is_primary AND rev_until IS NULL"),
    "uq_mitigation_open": ("mitigation", ["person_id", "rule_id"], "rev_until IS NULL"),
}


def upgrade() -> None:
    for name, (table, columns, where) in ONE.items():
        _close_older(table, columns, where)
        op.create_index(
            name, table, columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def _close_older(table: str, columns: list[str], where: str) -> None:
    """A fact is never deleted: what is not known any more ends with a revision."""
    connection = op.get_bind()
    rows = sa.table(table, sa.column("id", sa.Uuid()), sa.column("rev_until", sa.BigInteger()), *map(sa.column, columns))
    keys = [rows.c[name] for name in columns]
    newer = sa.func.row_number().over(partition_by=keys, order_by=rows.c.id.desc()).label("newer")
    known = sa.select(rows.c.id, newer).where(sa.text(where), *(key.is_not(None) for key in keys)).subquery()
    older = connection.execute(sa.select(known.c.id).where(known.c.newer > 1)).scalars().all()
    if not older:
        return
    counter = sa.table("counter", sa.column("facts_revision", sa.BigInteger()))
    revisions = sa.table("fact_revision", sa.column("revision", sa.BigInteger()), sa.column("at", UtcDateTime()))
    connection.execute(sa.update(counter).values(facts_revision=counter.c.facts_revision + 1))
    revision = connection.execute(sa.select(counter.c.facts_revision)).scalar_one()
    connection.execute(sa.insert(revisions).values(revision=revision, at=datetime.now(UTC)))
    connection.execute(sa.update(rows).where(rows.c.id.in_(older)).values(rev_until=revision))


def downgrade() -> None:
    for name, (table, _, _) in ONE.items():
        op.drop_index(name, table)
