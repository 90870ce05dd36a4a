"""What the nightly look at separated duties found."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0010_duty_report"
down_revision = "0009_named_facts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "duty_report",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("made_at", db.UtcDateTime(), nullable=False),
        sa.Column("facts_revision", sa.BigInteger(), nullable=False),
        sa.Column("findings", db.Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duty_report")),
    )
    op.create_index("ix_duty_report_made_at", "duty_report", ["made_at"])


def downgrade() -> None:
    op.drop_table("duty_report")
