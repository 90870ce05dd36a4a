"""Tables of keys. Private halves are stored wrapped (AES-256-GCM), never in the clear."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base


class PurposeKey(Base):
    """The key of a purpose, wrapped by the root key; it wraps the keys of that purpose."""

    __tablename__ = "purpose_key"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class KeyRow(Base):
    """A key of a set: at most one `current` and one `next` for each purpose and algorithm; in its state `since`."""

    __tablename__ = "key"
    __table_args__ = (
        CheckConstraint("state IN ('next', 'current', 'previous', 'retired')", name="state"),
        Index(
            "uq_key_live",
            "purpose",
            "algorithm",
            "state",
            unique=True,
            sqlite_where=text("state IN ('next', 'current')"),
            postgresql_where=text("state IN ('next', 'current')"),
        ),
    )

    kid: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    algorithm: Mapped[str]
    state: Mapped[str]
    since: Mapped[datetime]
    purpose_version: Mapped[int]
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    certificate: Mapped[str | None]
    created_at: Mapped[datetime]
    not_after: Mapped[datetime | None]
