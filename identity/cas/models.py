"""Table of CAS service tickets."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, ForeignKey, LargeBinary, delete
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json


class ServiceTicket(Base):
    """A service ticket (CAS 3.0 §3.1): seconds, once; any validation burns it."""

    __tablename__ = "cas_ticket"

    ticket_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    service: Mapped[str]
    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id"))
    fresh_credentials: Mapped[bool]
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


def purge(connection: Connection, now: datetime) -> None:
    """Drop tickets that nobody can validate any more."""
    connection.execute(delete(ServiceTicket).where(ServiceTicket.expires_at < now))
