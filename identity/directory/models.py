"""Table of directory sources."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class DirectorySource(Keyed, Base):
    """A directory that people come from. `secret_ref` names the bind secret (`file:…`, `env:…`), never holds it.

    It runs by itself every `interval_s` seconds, by a `cron` expression (in the organisation's time zone), or, `live`,
    as soon as something changes. By `check_cron` everything is compared and the drift reported; `check_repairs` = what
    the guard lets through is put right at once. `write_back`: fields that are written
    there by the console's choice, where the settings do not say it.
    """

    __tablename__ = "directory_source"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("kind IN ('openldap', 'active_directory', 'ldap', 'ldif', 'csv', 'xlsx')", name="kind"),
    )

    code: Mapped[str]
    name: Mapped[str]
    kind: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(Json)
    secret_ref: Mapped[str | None]
    precedence: Mapped[int] = mapped_column(default=100)
    interval_s: Mapped[int | None]
    cron: Mapped[str | None]
    live: Mapped[bool] = mapped_column(default=False)
    check_cron: Mapped[str | None]
    check_repairs: Mapped[bool] = mapped_column(default=False)
    write_back: Mapped[list[str]] = mapped_column(Json, default=list)
    enabled: Mapped[bool] = mapped_column(default=True)
    managed_by: Mapped[str] = mapped_column(default="console")
    created_at: Mapped[datetime]
