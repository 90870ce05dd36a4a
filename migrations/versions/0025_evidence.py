"""Evidence packs: what auditors ask for, and the packs themselves in parts, for as long as they are kept."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0025_evidence"
down_revision = "0024_write_back"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence_pack",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("query", db.Json(), nullable=False),
        sa.Column("wanted", db.Json(), nullable=False),
        sa.Column("personal", sa.Boolean(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", db.UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("done_at", db.UtcDateTime(), nullable=True),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("head_size", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("redactions", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'ready', 'failed', 'gone')", name=op.f("ck_evidence_pack_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_pack")),
    )
    op.create_index("ix_evidence_pack_state", "evidence_pack", ["state", "asked_at"])
    op.create_table(
        "evidence_part",
        sa.Column("pack_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pack_id"], ["evidence_pack.id"], name=op.f("fk_evidence_part_pack_id_evidence_pack")
        ),
        sa.PrimaryKeyConstraint("pack_id", "n", name=op.f("pk_evidence_part")),
    )


def downgrade() -> None:
    op.drop_table("evidence_part")
    op.drop_table("evidence_pack")
