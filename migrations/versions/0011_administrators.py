"""Administration roles are proposed by one person and approved by another."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0011_administrators"
down_revision = "0010_duty_report"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "admin_proposal",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role_key", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=True),
        sa.Column("proposed_at", db.UtcDateTime(), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", db.UtcDateTime(), nullable=True),
        sa.CheckConstraint("action IN ('assign', 'revoke')", name=op.f("ck_admin_proposal_action")),
        sa.CheckConstraint("state IN ('open', 'approved', 'refused')", name=op.f("ck_admin_proposal_state")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_admin_proposal_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_proposal")),
    )
    op.create_index("ix_admin_proposal_user_id", "admin_proposal", ["user_id"])


def downgrade() -> None:
    op.drop_table("admin_proposal")
