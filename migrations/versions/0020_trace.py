"""A message to others carries the trace of the act that caused it."""

import sqlalchemy as sa
from alembic import op

revision = "0020_trace"
down_revision = "0018_drafts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox_message", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("outbox_message") as batch:
        batch.drop_column("trace")
