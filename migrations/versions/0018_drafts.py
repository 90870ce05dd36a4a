"""Policy drafts, the second person's rule, and what a draft was found to do."""

import sqlalchemy as sa
from alembic import op

from identity.core.db import Json, UtcDateTime

revision = "0018_drafts"
down_revision = "0017_forward"
branch_labels = None
depends_on = None

RULES = ("permission", "role_inheritance", "role_mapping", "duty_rule")
TEXT = "a published policy version does not change"


def upgrade() -> None:
    op.create_table(
        "policy_draft",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("restores", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("owner_person", sa.Uuid(), nullable=True),
        sa.Column("writers", Json(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=True),
        sa.Column("proposed_at", UtcDateTime(), nullable=True),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('editing', 'proposed', 'published', 'discarded')", name=op.f("ck_policy_draft_state")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["policy_version.version"], name=op.f("fk_policy_draft_version_policy_version")
        ),
        sa.ForeignKeyConstraint(
            ["restores"], ["policy_version.version"], name=op.f("fk_policy_draft_restores_policy_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_draft")),
        sa.UniqueConstraint("version", name=op.f("uq_policy_draft_version")),
    )
    op.create_index("ix_policy_draft_state", "policy_draft", ["state", "created_at"])
    op.create_table(
        "second_person_rule",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("proposed_by", sa.Uuid(), nullable=True),
        sa.Column("proposed_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("slot = 1", name=op.f("ck_second_person_rule_one_row")),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_second_person_rule")),
    )
    _checks()
    _fix_published()


def _fix_published() -> None:
    """The database itself refuses to change a version that was published, whoever asks."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_published() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF (TG_OP <> 'INSERT' AND EXISTS (SELECT 1 FROM policy_version "
            "WHERE version = OLD.version AND state = 'published')) "
            "OR (TG_OP <> 'DELETE' AND EXISTS (SELECT 1 FROM policy_version "
            "WHERE version = NEW.version AND state = 'published')) "
            f"THEN RAISE EXCEPTION '{TEXT}'; END IF; "
            "RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$"
        )
        for table in RULES:
            op.execute(
                f"CREATE TRIGGER {table}_published BEFORE INSERT OR UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse_published()"
            )
        op.execute(
            "CREATE TRIGGER policy_version_published BEFORE UPDATE OR DELETE ON policy_version "
            "FOR EACH ROW WHEN (OLD.state = 'published') EXECUTE FUNCTION refuse_published()"
        )
        return
    for table in RULES:
        for verb, rows in (("INSERT", "NEW.version"), ("UPDATE", "OLD.version, NEW.version"), ("DELETE", "OLD.version")):
            op.execute(
                f"CREATE TRIGGER {table}_published_{verb.lower()} BEFORE {verb} ON {table} "
                f"WHEN EXISTS (SELECT 1 FROM policy_version WHERE version IN ({rows}) AND state = 'published') "
                f"BEGIN SELECT RAISE(ABORT, '{TEXT}'); END"
            )
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER policy_version_published_{verb.lower()} BEFORE {verb} ON policy_version "
            f"WHEN OLD.state = 'published' BEGIN SELECT RAISE(ABORT, '{TEXT}'); END"
        )


def _release_published() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in (*RULES, "policy_version"):
            op.execute(f"DROP TRIGGER {table}_published ON {table}")
        op.execute("DROP FUNCTION refuse_published()")
        return
    for table in RULES:
        for verb in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER {table}_published_{verb}")
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER policy_version_published_{verb}")


def _checks() -> None:
    op.create_table(
        "policy_check",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("before_version", sa.BigInteger(), nullable=False),
        sa.Column("after_version", sa.BigInteger(), nullable=False),
        sa.Column("after_digest", sa.Text(), nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.Column("facts_revision", sa.BigInteger(), nullable=True),
        sa.Column("counts", Json(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('compare', 'replay')", name=op.f("ck_policy_check_kind")),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_policy_check_state")),
        sa.ForeignKeyConstraint(
            ["after_version"], ["policy_version.version"], name=op.f("fk_policy_check_after_version_policy_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_check")),
    )
    op.create_index("ix_policy_check_state", "policy_check", ["state", "asked_at"])
    op.create_index("ix_policy_check_after", "policy_check", ["after_version", "asked_at"])
    op.create_table(
        "policy_check_row",
        sa.Column("check_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["check_id"], ["policy_check.id"], name=op.f("fk_policy_check_row_check_id_policy_check")
        ),
        sa.PrimaryKeyConstraint("check_id", "n", name=op.f("pk_policy_check_row")),
    )
    op.create_index("ix_policy_check_row_user", "policy_check_row", ["check_id", "user_id"])


def downgrade() -> None:
    _release_published()
    for table in ("policy_check_row", "policy_check", "second_person_rule", "policy_draft"):
        op.drop_table(table)
