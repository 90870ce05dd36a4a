"""Legs of a SAML logout that goes through the browser."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0014_saml_logout"
down_revision = "0013_sync_plans"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saml_logout_leg",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("name_id", sa.Text(), nullable=False),
        sa.Column("name_id_format", sa.Text(), nullable=False),
        sa.Column("session_index", sa.Text(), nullable=False),
        sa.Column("relay_state", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", db.UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('asked', 'waiting', 'sent', 'confirmed', 'failed')", name=op.f("ck_saml_logout_leg_state")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["login_session.id"], name=op.f("fk_saml_logout_leg_session_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saml_logout_leg")),
    )
    for column in ("session_id", "request_id", "created_at"):
        op.create_index(op.f(f"ix_saml_logout_leg_{column}"), "saml_logout_leg", [column])


def downgrade() -> None:
    op.drop_table("saml_logout_leg")
