"""Table of what must still be told to others."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class OutboxMessage(Keyed, Base):
    """One delivery; written with the act that causes it, sent by the worker, kept until delivered or given up.

    `kind` names the sender that delivers it; messages of one `ordering_key` go out in order; `trace` is its act's.
    """

    __tablename__ = "outbox_message"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="state"),
        Index("ix_outbox_message_due", "state", "next_at"),
        Index("ix_outbox_message_order", "ordering_key", "state", "id"),
    )

    kind: Mapped[str]
    destination: Mapped[str]
    ordering_key: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    last_error: Mapped[str | None]
    trace: Mapped[str | None]
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
