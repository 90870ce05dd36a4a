"""Tables of what a proxied host is given: a code once, and a session of its own."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, ForeignKey, LargeBinary, delete
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base


class ForwardCode(Base):
    """Takes a finished sign-in to the proxied host: seconds, once, in the browser that began it."""

    __tablename__ = "forward_code"

    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    state_hash: Mapped[str]
    host_id: Mapped[UUID] = mapped_column(ForeignKey("forward_host.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id"))
    sid: Mapped[str]
    acr: Mapped[str]
    return_to: Mapped[str]
    session_expires_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ForwardSession(Base):
    """A browser's session at one proxied host; it lives no longer than the person's session."""

    __tablename__ = "forward_session"

    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    host_id: Mapped[UUID] = mapped_column(ForeignKey("forward_host.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id"))
    sid: Mapped[str]
    acr: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


def purge(connection: Connection, now: datetime) -> None:
    """Drop what nobody can use any more."""
    for table in (ForwardCode, ForwardSession):
        connection.execute(delete(table).where(table.expires_at < now))
