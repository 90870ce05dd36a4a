"""Values of profiles on their way to the directories that people come from."""

import sqlalchemy as sa
from alembic import op

from identity.core.db import UtcDateTime

revision = "0024_write_back"
down_revision = "0023_outage"
branch_labels = None
depends_on = None

STATES = "state IN ('waiting', 'done', 'newer', 'failed')"
FIELDS = "field IN ('name', 'family_name', 'given_name', 'mail', 'phone')"


def upgrade() -> None:
    op.create_table(
        "write_back",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("found", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_write_back"),
        sa.ForeignKeyConstraint(["account_id"], ["source_account.id"], name="fk_write_back_account_id"),
        sa.ForeignKeyConstraint(["run_id"], ["sync_run.id"], name="fk_write_back_run_id"),
        sa.UniqueConstraint("account_id", "field", name="uq_write_back_account_id_field"),
        sa.CheckConstraint(STATES, name=op.f("ck_write_back_state")),
        sa.CheckConstraint(FIELDS, name=op.f("ck_write_back_field")),
    )
    op.create_index("ix_write_back_due", "write_back", ["state", "next_at"])
    with op.batch_alter_table("directory_source") as batch:
        batch.add_column(sa.Column("write_back", sa.Text(), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("directory_source") as batch:
        batch.drop_column("write_back")
    op.drop_table("write_back")
