"""The account of buffered decisions: how many of a process are kept or recorded as missing."""

import sqlalchemy as sa
from alembic import op

revision = "0015_recorder_account"
down_revision = "0014_saml_logout"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recorder_account",
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("accounted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("process", "application", name=op.f("pk_recorder_account")),
    )


def downgrade() -> None:
    op.drop_table("recorder_account")
