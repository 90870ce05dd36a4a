"""Passwords that a directory has accepted, kept as hashes for the time in which it cannot be asked."""

import sqlalchemy as sa
from alembic import op

from identity.core.db import UtcDateTime

revision = "0023_outage"
down_revision = "0022_audit_words"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accepted_password",
        sa.Column("user_id", sa.Uuid(), sa.ForeignKey("users.id", name="fk_accepted_password_user_id"), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["directory_source.id"], name="fk_accepted_password_source_id"
        ),
        sa.PrimaryKeyConstraint("user_id", name="pk_accepted_password"),
    )


def downgrade() -> None:
    op.drop_table("accepted_password")
