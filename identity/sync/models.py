"""Table of sync runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class SyncRun(Keyed, Base):
    """One run of one source: its plan, what the guard said, and what was applied.

    `counts` is {change kind: number}; `plan` is the list of planned changes as shown to the admin.
    """

    __tablename__ = "sync_run"
    __table_args__ = (
        CheckConstraint("mode IN ('apply', 'dry_run')", name="mode"),
        CheckConstraint("state IN ('running', 'applied', 'planned', 'held', 'failed')", name="state"),
        Index("ix_sync_run_source", "source_id", "started_at"),
    )

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"))
    mode: Mapped[str]
    state: Mapped[str]
    started_by: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    entries: Mapped[int | None]
    counts: Mapped[dict[str, int]] = mapped_column(Json, default=dict)
    plan: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    error: Mapped[str | None]
    facts_revision: Mapped[int | None]
