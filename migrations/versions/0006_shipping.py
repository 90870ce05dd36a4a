"""Where the record is shipped to, and how far each target has been served."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0006_shipping"
down_revision = "0005_audit_partitions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ship_target",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settings", db.Json(), nullable=False),
        sa.Column("secret_ref", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("managed_by", sa.Text(), nullable=False),
        sa.Column("created_at", db.UtcDateTime(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("shipped", sa.BigInteger(), nullable=False),
        sa.Column("shipped_to", db.UtcDateTime(), nullable=True),
        sa.Column("failing_since", db.UtcDateTime(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('file', 'syslog', 'kafka', 'rabbitmq', 'otlp')", name=op.f("ck_ship_target_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ship_target")),
        sa.UniqueConstraint("code", name=op.f("uq_ship_target_code")),
    )


def downgrade() -> None:
    op.drop_table("ship_target")
