"""Names that decisions read are facts: groups', and identities' logins."""

import sqlalchemy as sa
from alembic import op

from identity.core import db
from identity.core.secrets import new_id

revision = "0009_named_facts"
down_revision = "0009_key_since"
branch_labels = None
depends_on = None

OPEN = sa.text("rev_until IS NULL")


def upgrade() -> None:
    naming = op.create_table(
        "group_naming",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("valid_from", db.UtcDateTime(), nullable=True),
        sa.Column("valid_until", db.UtcDateTime(), nullable=True),
        sa.Column("rev_from", sa.BigInteger(), nullable=False),
        sa.Column("rev_until", sa.BigInteger(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_naming_group_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_naming")),
    )
    op.create_index("ix_group_naming_group_id", "group_naming", ["group_id"])
    op.create_index(
        "uq_group_naming_open", "group_naming", ["group_id"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN
    )
    attribute = sa.table(
        "user_attribute",
        *(sa.column(name, sa.Uuid()) for name in ("id", "user_id")),
        *(sa.column(name, sa.Text()) for name in ("name", "value")),
        sa.column("rev_from", sa.BigInteger()),
    )
    connection = op.get_bind()
    # Known from the beginning: older recorded decisions read the same names.
    groups = connection.execute(sa.select(sa.column("id", sa.Uuid()), sa.column("name")).select_from(sa.table("groups")))
    rows = [{"id": new_id(), "group_id": row.id, "name": row.name, "rev_from": 0} for row in groups]
    if rows:
        connection.execute(sa.insert(naming), rows)
    users = connection.execute(sa.select(sa.column("id", sa.Uuid()), sa.column("login")).select_from(sa.table("users")))
    rows = [
        {"id": new_id(), "user_id": row.id, "name": "login", "value": row.login, "rev_from": 0} for row in users
    ]
    if rows:
        connection.execute(sa.insert(attribute), rows)


def downgrade() -> None:
    op.execute("DELETE FROM user_attribute WHERE name = 'login'")
    op.drop_table("group_naming")
