"""Rights of an application at the decision point, and the resources that it registers for searches."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0004_search"
down_revision = "0003_removed_faces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("application", sa.Column("rights", db.Json(), nullable=False, server_default="[]"))
    op.create_table(
        "app_resource",
        sa.Column("application_id", sa.Uuid(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("properties", db.Json(), nullable=False),
        sa.Column("registered_at", db.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_app_resource_application_id")
        ),
        sa.PrimaryKeyConstraint("application_id", "resource_type", "resource_id", name=op.f("pk_app_resource")),
    )


def downgrade() -> None:
    op.drop_table("app_resource")
    op.drop_column("application", "rights")
