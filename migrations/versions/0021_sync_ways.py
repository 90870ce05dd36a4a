"""Sync: cron expressions and continuous runs, files as tables, checks, and what a held plan is compared by."""

import sqlalchemy as sa
from alembic import op

from identity.core.db import UtcDateTime

revision = "0021_sync_ways"
down_revision = "0020_trace"
branch_labels = None
depends_on = None

OLD_KINDS = ("openldap", "active_directory", "ldap", "ldif")
KINDS = (*OLD_KINDS, "csv", "xlsx")
OLD_MODES = ("apply", "dry_run", "undo")
MODES = (*OLD_MODES, "check")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(one) for one in values)})"


def upgrade() -> None:
    with op.batch_alter_table("directory_source") as batch:
        batch.add_column(sa.Column("cron", sa.Text(), nullable=True))
        batch.add_column(sa.Column("live", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("check_cron", sa.Text(), nullable=True))
        batch.add_column(sa.Column("check_repairs", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.drop_constraint(op.f("ck_directory_source_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_directory_source_kind"), _one_of("kind", KINDS))
    with op.batch_alter_table("sync_run") as batch:
        batch.add_column(sa.Column("digest", sa.Text(), nullable=True))
        batch.drop_constraint(op.f("ck_sync_run_mode"), type_="check")
        batch.create_check_constraint(op.f("ck_sync_run_mode"), _one_of("mode", MODES))
    with op.batch_alter_table("sync_state") as batch:
        batch.add_column(sa.Column("compared_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("sync_state") as batch:
        batch.drop_column("compared_at")
    op.execute(sa.text("UPDATE sync_run SET mode = 'dry_run' WHERE mode = 'check'"))
    with op.batch_alter_table("sync_run") as batch:
        batch.drop_constraint(op.f("ck_sync_run_mode"), type_="check")
        batch.create_check_constraint(op.f("ck_sync_run_mode"), _one_of("mode", OLD_MODES))
        batch.drop_column("digest")
    # A table's people cannot be read by what was before: the source stays, out of use.
    op.execute(sa.text("UPDATE directory_source SET kind = 'ldif', enabled = false WHERE kind IN ('csv', 'xlsx')"))
    with op.batch_alter_table("directory_source") as batch:
        batch.drop_constraint(op.f("ck_directory_source_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_directory_source_kind"), _one_of("kind", OLD_KINDS))
        for name in ("check_repairs", "check_cron", "live", "cron"):
            batch.drop_column(name)
