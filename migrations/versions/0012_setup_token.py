"""One-time tokens of invited administrators."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0012_setup_token"
down_revision = "0011_administrators"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "setup_token",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", db.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_setup_token_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_setup_token")),
    )


def downgrade() -> None:
    op.drop_table("setup_token")
