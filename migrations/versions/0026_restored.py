"""Restorations of the database from a backup, as the sealer states them; the history that a head is of."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0026_restored"
down_revision = "0025_evidence"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_head", sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "audit_restored",
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", db.UtcDateTime(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_audit_restored")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER audit_restored_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_restored "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_restored_no_{verb.lower()} BEFORE {verb} ON audit_restored "
            "BEGIN SELECT RAISE(ABORT, 'audit_restored is append-only'); END"
        )


def downgrade() -> None:
    op.drop_table("audit_restored")
    op.drop_column("audit_head", "epoch")
