"""Tables of evidence packs: what an auditor asks for, and what the worker made of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class EvidencePack(Keyed, Base):
    """A pack that was asked for. It goes queued → ready → gone, or queued → failed.

    `query` is the search form as it was sent, `wanted` the `query.Filter` that it was read as (`packs.to_json`);
    `personal`: with the personal values. Of a pack that is ready: number of records, size of the head that proves
    them, and size in bytes and SHA-256 (hex) of the zip file, whose parts are `EvidencePart`. `error` is a code: why
    it failed, or why it is gone.
    """

    __tablename__ = "evidence_pack"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'ready', 'failed', 'gone')", name="state"),
        Index("ix_evidence_pack_state", "state", "asked_at"),
    )

    state: Mapped[str] = mapped_column(default="queued")
    query: Mapped[dict[str, str]] = mapped_column(Json)
    wanted: Mapped[dict[str, Any]] = mapped_column(Json)
    personal: Mapped[bool]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    reason: Mapped[str]
    reference: Mapped[str | None]
    done_at: Mapped[datetime | None]
    records: Mapped[int] = mapped_column(default=0)
    head_size: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str] = mapped_column(default="")
    error: Mapped[str] = mapped_column(default="")
    redactions: Mapped[int] = mapped_column(default=0)
    """How many redactions came while it waited: what was read before one of them is read again."""


class EvidencePart(Base):
    """A piece of a pack's zip file, in the order of `n`; dropped when the pack is no longer kept."""

    __tablename__ = "evidence_part"

    pack_id: Mapped[UUID] = mapped_column(ForeignKey("evidence_pack.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
