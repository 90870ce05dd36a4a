"""The words of the search index in a table of their own, found by key; the finder derives the index anew."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0022_audit_words"
down_revision = "0021_sync_ways"
branch_labels = None
depends_on = None

# The results that an auditor looks for; of the others there are so many that the newest are found by time.
RARE = "result IN ('deny', 'failed', 'refused')"


def upgrade() -> None:
    _start_anew()
    op.create_table(
        "audit_word",
        sa.Column("word", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("at", db.UtcDateTime(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("item", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("word", "at", "record_id", "item", name=op.f("pk_audit_word")),
        sqlite_with_rowid=False,
    )
    op.drop_index("ix_audit_find_result", "audit_find")
    op.create_index(
        "ix_audit_find_rare_result",
        "audit_find",
        ["result", "at"],
        sqlite_where=sa.text(RARE),
        postgresql_where=sa.text(RARE),
    )
    op.drop_column("audit_find", "words")


def downgrade() -> None:
    _start_anew()
    op.add_column("audit_find", sa.Column("words", sa.Text(), nullable=False, server_default=""))
    op.drop_index("ix_audit_find_rare_result", "audit_find")
    op.create_index("ix_audit_find_result", "audit_find", ["result", "at"])
    op.drop_table("audit_word")


def _start_anew() -> None:
    op.execute("DELETE FROM audit_find")
    op.execute("DELETE FROM audit_find_progress")
