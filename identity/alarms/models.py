"""Tables of alarm settings and of raised alarms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class AlarmSetting(Base):
    """How one rule is set; a rule without a row has its defaults and tells nobody but the console."""

    __tablename__ = "alarm_setting"

    rule: Mapped[str] = mapped_column(primary_key=True)
    threshold: Mapped[int | None]
    window_s: Mapped[int | None]
    hours: Mapped[str | None]
    channels: Mapped[list[str]] = mapped_column(Json)
    enabled: Mapped[bool] = mapped_column(default=True)
    managed_by: Mapped[str] = mapped_column(default="console")


class Alarm(Keyed, Base):
    """A raised alarm. While the same thing goes on, `count` and `last_at` grow and nobody is told again."""

    __tablename__ = "alarm"
    __table_args__ = (
        UniqueConstraint("rule", "key", "raised_at"),
        Index("ix_alarm_raised_at", "raised_at"),
        Index("ix_alarm_rule_key", "rule", "key", "last_at"),
    )

    rule: Mapped[str]
    key: Mapped[str]
    raised_at: Mapped[datetime]
    last_at: Mapped[datetime]
    count: Mapped[int]
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    seen_by: Mapped[str | None]
    seen_at: Mapped[datetime | None]
