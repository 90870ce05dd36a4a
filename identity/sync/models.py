"""Tables of sync runs, their plans, how far each source was read, and what people decided about conflicts."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class SyncRun(Keyed, Base):
    """One run of one source: what it read, what the guard said, and how much of its plan is applied.

    `counts` is {change kind: number}; changes up to `applied_seq` are done, `failed` of them could not be.
    `cursor` is what the next run reads from once this one is applied, `effects` says who gains and loses which roles,
    `timings` are seconds by stage, `digest` tells two plans apart. Mode `check` compares everything: its plan is the
    drift.
    """

    __tablename__ = "sync_run"
    __table_args__ = (
        CheckConstraint("mode IN ('apply', 'dry_run', 'undo', 'check')", name="mode"),
        CheckConstraint(
            "state IN ('running', 'applying', 'applied', 'planned', 'held', 'failed', 'rejected', 'superseded', "
            "'undone')",
            name="state",
        ),
        Index("ix_sync_run_source", "source_id", "started_at"),
    )

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"))
    mode: Mapped[str]
    state: Mapped[str]
    started_by: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    entries: Mapped[int | None]
    complete: Mapped[bool] = mapped_column(default=True)
    server: Mapped[str | None]
    counts: Mapped[dict[str, int]] = mapped_column(Json, default=dict)
    effects: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    timings: Mapped[dict[str, float]] = mapped_column(Json, default=dict)
    cursor: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    changes: Mapped[int] = mapped_column(default=0)
    applied_seq: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    approved_by: Mapped[str | None]
    undo_of: Mapped[UUID | None] = mapped_column(ForeignKey("sync_run.id"))
    facts_revision: Mapped[int | None]
    digest: Mapped[str | None]


class SyncChange(Base):
    """One planned change; `error` says why it could not be applied. Personal values go when the plan is forgotten."""

    __tablename__ = "sync_change"
    __table_args__ = (Index("ix_sync_change_entry", "run_id", "immutable_id"),)

    run_id: Mapped[UUID] = mapped_column(ForeignKey("sync_run.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    immutable_id: Mapped[str]
    title: Mapped[str]
    reason: Mapped[str]
    before: Mapped[dict[str, Any]] = mapped_column(Json)
    after: Mapped[dict[str, Any]] = mapped_column(Json)
    error: Mapped[str | None]


class SyncState(Base):
    """How far a source is: `cursor` of the last applied run, made with settings of this `fingerprint`. `full_at`: when
    everything was last read; None = that is due, as after a change that could not be made.

    `paused` says why nothing runs by itself until somebody resumes it; `compared_at` is the last consistency check.
    """

    __tablename__ = "sync_state"

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"), primary_key=True)
    cursor: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    fingerprint: Mapped[str | None]
    full_at: Mapped[datetime | None]
    success_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    paused: Mapped[str | None]
    compared_at: Mapped[datetime | None]


class BindFailure(Base):
    """Wrong passwords that we sent to a directory for an account, so that we stop before it locks the account."""

    __tablename__ = "directory_bind_failure"

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"), primary_key=True)
    immutable_id: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    window_started: Mapped[datetime]


class SyncDecision(Base):
    """What a person decided about an entry in conflict."""

    __tablename__ = "sync_decision"
    __table_args__ = (CheckConstraint("action IN ('link', 'new', 'ignore')", name="action"),)

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"), primary_key=True)
    immutable_id: Mapped[str] = mapped_column(primary_key=True)
    action: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
    reason: Mapped[str]
