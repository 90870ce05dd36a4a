"""Table of the places that the record is shipped to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class ShipTarget(Keyed, Base):
    """One target. Everything up to `position` (in the order of commits) was taken by it.

    `secret_ref` names its secret (`file:…`, `env:…`), never holds it; `failing_since` is None while all is well.
    """

    __tablename__ = "ship_target"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("kind IN ('file', 'syslog', 'kafka', 'rabbitmq', 'otlp')", name="kind"),
    )

    code: Mapped[str]
    kind: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(Json)
    secret_ref: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    managed_by: Mapped[str] = mapped_column(default="console")
    created_at: Mapped[datetime]
    position: Mapped[int] = mapped_column(default=0)
    shipped: Mapped[int] = mapped_column(default=0)
    shipped_to: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]
