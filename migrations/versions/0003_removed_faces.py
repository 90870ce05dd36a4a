"""Faces of applications can be removed; their wire names stay taken."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0003_removed_faces"
down_revision = "0002"
branch_labels = None
depends_on = None

FACES = ("oidc_client", "saml_service_provider", "cas_service", "resource_server")


def upgrade() -> None:
    for table in FACES:
        op.add_column(table, sa.Column("removed_at", db.UtcDateTime(), nullable=True))


def downgrade() -> None:
    for table in FACES:
        op.drop_column(table, "removed_at")
