"""The proof: tree nodes, the sealer's progress, where heads were sent, retention's requests and tombstones."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0007_proof"
down_revision = "0006_shipping"
branch_labels = None
depends_on = None

APPEND_ONLY = ("audit_node", "audit_anchor", "audit_tombstone")


def upgrade() -> None:
    op.create_index("ix_audit_leaf_record", "audit_leaf", ["record_id"])
    op.create_table(
        "audit_node",
        sa.Column("level", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_audit_node")),
    )
    op.create_table(
        "audit_seal",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sealed_to", db.UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_audit_seal")),
    )
    op.execute("INSERT INTO audit_seal (slot, position, size) VALUES (1, 0, 0)")
    op.create_table(
        "audit_anchor",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", db.UtcDateTime(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("size", "target", name=op.f("pk_audit_anchor")),
    )
    op.create_table(
        "audit_purge",
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("from_at", db.UtcDateTime(), nullable=False),
        sa.Column("until_at", db.UtcDateTime(), nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_at", db.UtcDateTime(), nullable=False),
        sa.Column("purged_at", db.UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("class", "from_at", name=op.f("pk_audit_purge")),
    )
    op.create_table(
        "audit_tombstone",
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("from_at", db.UtcDateTime(), nullable=False),
        sa.Column("at", db.UtcDateTime(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("class", "from_at", name=op.f("pk_audit_tombstone")),
    )
    for table in APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
            continue
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    for table in ("audit_tombstone", "audit_purge", "audit_anchor", "audit_seal", "audit_node"):
        op.drop_table(table)
    op.drop_index("ix_audit_leaf_record", "audit_leaf")
