"""Sync: stored plans, how far each source is, decisions about conflicts; kinds of sources."""

import sqlalchemy as sa
from alembic import op

from identity.core.db import Json, UtcDateTime

revision = "0013_sync_plans"
down_revision = "0012_setup_token"
branch_labels = None
depends_on = None

STATES = ("running", "applying", "applied", "planned", "held", "failed", "rejected", "superseded", "undone")
OLD_STATES = ("running", "applied", "planned", "held", "failed")
MODES, OLD_MODES = ("apply", "dry_run", "undo"), ("apply", "dry_run")
KINDS, OLD_KINDS = ("openldap", "active_directory", "ldap", "ldif"), ("openldap", "active_directory", "ldif")
NEW_COLUMNS = (
    ("complete", sa.Boolean(), False, sa.true()),
    ("server", sa.Text(), True, None),
    ("effects", Json(), False, "{}"),
    ("timings", Json(), False, "{}"),
    ("cursor", Json(), False, "{}"),
    ("changes", sa.BigInteger(), False, "0"),
    ("applied_seq", sa.BigInteger(), False, "0"),
    ("failed", sa.BigInteger(), False, "0"),
    ("approved_by", sa.Text(), True, None),
    ("undo_of", sa.Uuid(), True, None),
)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(one) for one in values)})"


def upgrade() -> None:
    with op.batch_alter_table("sync_run") as batch:
        batch.drop_constraint(op.f("ck_sync_run_mode"), type_="check")
        batch.drop_constraint(op.f("ck_sync_run_state"), type_="check")
        batch.create_check_constraint(op.f("ck_sync_run_mode"), _one_of("mode", MODES))
        batch.create_check_constraint(op.f("ck_sync_run_state"), _one_of("state", STATES))
        for name, kind, nullable, default in NEW_COLUMNS:
            batch.add_column(sa.Column(name, kind, nullable=nullable, server_default=default))
        batch.create_foreign_key(op.f("fk_sync_run_undo_of"), "sync_run", ["undo_of"], ["id"])
        batch.drop_column("plan")
    with op.batch_alter_table("directory_source") as batch:
        batch.drop_constraint(op.f("ck_directory_source_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_directory_source_kind"), _one_of("kind", KINDS))
    with op.batch_alter_table("source_account") as batch:
        batch.add_column(sa.Column("seen", Json(), nullable=True))
    with op.batch_alter_table("org_unit") as batch:
        batch.add_column(sa.Column("dn", sa.Text(), nullable=True))
    op.create_table(
        "sync_change",
        sa.Column("run_id", sa.Uuid(), sa.ForeignKey("sync_run.id", name="fk_sync_change_run_id"), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("immutable_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", Json(), nullable=False),
        sa.Column("after", Json(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_sync_change"),
    )
    op.create_index("ix_sync_change_entry", "sync_change", ["run_id", "immutable_id"])
    op.create_table(
        "sync_state",
        sa.Column(
            "source_id", sa.Uuid(), sa.ForeignKey("directory_source.id", name="fk_sync_state_source_id"), nullable=False
        ),
        sa.Column("cursor", Json(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("full_at", UtcDateTime(), nullable=True),
        sa.Column("success_at", UtcDateTime(), nullable=True),
        sa.Column("checked_at", UtcDateTime(), nullable=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("paused", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", name="pk_sync_state"),
    )
    op.create_table(
        "directory_bind_failure",
        sa.Column(
            "source_id",
            sa.Uuid(),
            sa.ForeignKey("directory_source.id", name="fk_directory_bind_failure_source_id"),
            nullable=False,
        ),
        sa.Column("immutable_id", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("window_started", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "immutable_id", name="pk_directory_bind_failure"),
    )
    op.create_table(
        "sync_decision",
        sa.Column(
            "source_id",
            sa.Uuid(),
            sa.ForeignKey("directory_source.id", name="fk_sync_decision_source_id"),
            nullable=False,
        ),
        sa.Column("immutable_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), sa.ForeignKey("users.id", name="fk_sync_decision_user_id"), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(_one_of("action", ("link", "new", "ignore")), name=op.f("ck_sync_decision_action")),
        sa.PrimaryKeyConstraint("source_id", "immutable_id", name="pk_sync_decision"),
    )


def downgrade() -> None:
    for table in ("sync_decision", "directory_bind_failure", "sync_state", "sync_change"):
        op.drop_table(table)
    with op.batch_alter_table("org_unit") as batch:
        batch.drop_column("dn")
    with op.batch_alter_table("source_account") as batch:
        batch.drop_column("seen")
    op.execute(sa.text("DELETE FROM sync_run WHERE mode = 'undo'"))
    op.execute(sa.text(f"UPDATE sync_run SET state = 'failed' WHERE NOT ({_one_of('state', OLD_STATES)})"))
    with op.batch_alter_table("directory_source") as batch:
        batch.drop_constraint(op.f("ck_directory_source_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_directory_source_kind"), _one_of("kind", OLD_KINDS))
    with op.batch_alter_table("sync_run") as batch:
        batch.drop_constraint(op.f("fk_sync_run_undo_of"), type_="foreignkey")
        for name in ("ck_sync_run_mode", "ck_sync_run_state"):
            batch.drop_constraint(op.f(name), type_="check")
        batch.create_check_constraint(op.f("ck_sync_run_mode"), _one_of("mode", OLD_MODES))
        batch.create_check_constraint(op.f("ck_sync_run_state"), _one_of("state", OLD_STATES))
        for name, _, _, _ in NEW_COLUMNS:
            batch.drop_column(name)
        batch.add_column(sa.Column("plan", Json(), nullable=False, server_default="[]"))
