"""Hosts behind proxies, the codes that take a sign-in there, and their sessions."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0017_forward"
down_revision = "0015_recorder_account"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forward_host",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("actions", db.Json(), nullable=False),
        sa.Column("routes", db.Json(), nullable=False),
        sa.Column("application_id", sa.Uuid(), nullable=False),
        sa.Column("removed_at", db.UtcDateTime(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["application_id"], ["application.id"], name=op.f("fk_forward_host_application_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forward_host")),
        sa.UniqueConstraint("origin", name=op.f("uq_forward_host_origin")),
    )
    op.create_index(op.f("ix_forward_host_application_id"), "forward_host", ["application_id"])
    for name, columns in (
        (
            "forward_code",
            (
                sa.Column("code_hash", sa.LargeBinary(), nullable=False),
                sa.Column("state_hash", sa.Text(), nullable=False),
                sa.Column("return_to", sa.Text(), nullable=False),
                sa.Column("session_expires_at", db.UtcDateTime(), nullable=False),
            ),
        ),
        (
            "forward_session",
            (
                sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
                sa.Column("created_at", db.UtcDateTime(), nullable=False),
            ),
        ),
    ):
        op.create_table(
            name,
            *columns,
            sa.Column("host_id", sa.Uuid(), nullable=False),
            sa.Column("user_id", sa.Uuid(), nullable=False),
            sa.Column("session_id", sa.Uuid(), nullable=False),
            sa.Column("sid", sa.Text(), nullable=False),
            sa.Column("acr", sa.Text(), nullable=False),
            sa.Column("expires_at", db.UtcDateTime(), nullable=False),
            sa.ForeignKeyConstraint(["host_id"], ["forward_host.id"], name=op.f(f"fk_{name}_host_id")),
            sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{name}_user_id")),
            sa.ForeignKeyConstraint(["session_id"], ["login_session.id"], name=op.f(f"fk_{name}_session_id")),
            sa.PrimaryKeyConstraint(columns[0].name, name=op.f(f"pk_{name}")),
        )
        op.create_index(op.f(f"ix_{name}_expires_at"), name, ["expires_at"])


def downgrade() -> None:
    op.drop_table("forward_session")
    op.drop_table("forward_code")
    op.drop_table("forward_host")
