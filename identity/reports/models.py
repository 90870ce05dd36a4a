"""Tables of made reports and of their schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class ReportRun(Keyed, Base):
    """A made report: its rows as CSV, and of what state of the installation it speaks.

    `sha256` is over `content`; the record `reports.report.made` holds it too, so the report can be proved.
    """

    __tablename__ = "report_run"
    __table_args__ = (Index("ix_report_run_report", "report", "made_at"),)

    report: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(Json)
    question: Mapped[str]
    made_at: Mapped[datetime]
    made_by: Mapped[str]
    row_count: Mapped[int]
    facts_revision: Mapped[int]
    policy_version: Mapped[int]
    complete_to: Mapped[datetime | None]
    tree_size: Mapped[int]
    tree_root: Mapped[bytes | None] = mapped_column(LargeBinary)
    sha256: Mapped[str]
    content: Mapped[str] = mapped_column(Text)


class ReportSchedule(Keyed, Base):
    """A report that is made by a cron expression, read in the organisation's time zone, and mailed."""

    __tablename__ = "report_schedule"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("language IN ('en', 'zh_Hans')", name="language"),
    )

    code: Mapped[str]
    report: Mapped[str]
    days: Mapped[int]
    cron: Mapped[str]
    recipients: Mapped[list[str]] = mapped_column(Json)
    language: Mapped[str] = mapped_column(default="zh_Hans")
    enabled: Mapped[bool] = mapped_column(default=True)
    managed_by: Mapped[str] = mapped_column(default="console")
    created_at: Mapped[datetime]
    last_made_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
