"""A key knows since when it is in its state; messages of one order are found by index."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0009_key_since"
down_revision = "0008_reports_alarms"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A column that may not be empty needs a default while it is added; SQLite cannot drop it afterwards.
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    default = sa.text("now()" if is_postgresql else "0")
    op.add_column("key", sa.Column("since", db.UtcDateTime(), nullable=False, server_default=default))
    op.execute('UPDATE "key" SET since = created_at')
    if is_postgresql:
        op.alter_column("key", "since", server_default=None)
    op.create_index("ix_outbox_message_order", "outbox_message", ["ordering_key", "state", "id"])


def downgrade() -> None:
    op.drop_index("ix_outbox_message_order", "outbox_message")
    op.drop_column("key", "since")
