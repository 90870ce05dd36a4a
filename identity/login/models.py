"""Tables of signing in. Secrets are digests; seeds are encrypted."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class LoginSession(Keyed, Base):
    """A server-side session; the cookie holds a secret, the row its digest."""

    __tablename__ = "login_session"
    __table_args__ = (
        UniqueConstraint("secret_hash"),
        CheckConstraint("surface IN ('sso', 'admin')", name="surface"),
    )

    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    surface: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    auth_time: Mapped[datetime]
    acr: Mapped[str]
    amr: Mapped[list[str]] = mapped_column(Json)
    partial: Mapped[bool] = mapped_column(default=False)
    ip: Mapped[str]
    user_agent: Mapped[str]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None]


class SessionParticipant(Keyed, Base):
    """An application that took part in a session; logout tells it. `sid` is per session and client."""

    __tablename__ = "session_participant"
    __table_args__ = (UniqueConstraint("session_id", "application_id", "protocol"), UniqueConstraint("sid"))

    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id"))
    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"))
    protocol: Mapped[str]
    sid: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    joined_at: Mapped[datetime]


class LoginTransaction(Keyed, Base):
    """A login under way, bound to one browser by the digest of its cookie."""

    __tablename__ = "login_transaction"

    browser_hash: Mapped[bytes] = mapped_column(LargeBinary)
    door: Mapped[str]
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    consented: Mapped[bool] = mapped_column(default=False)
    denied: Mapped[bool] = mapped_column(default=False)
    finished_at: Mapped[datetime | None]


class LoginFailure(Base):
    """Failed sign-ins of a login or an address within a window."""

    __tablename__ = "login_failure"

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    count: Mapped[int]
    window_started: Mapped[datetime]
    blocked_until: Mapped[datetime | None]


class LocalPassword(Base):
    """The argon2id hash of an identity that signs in here and not in a directory."""

    __tablename__ = "local_password"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hash: Mapped[str]
    changed_at: Mapped[datetime]


class AcceptedPassword(Base):
    """The argon2id hash of the password that a directory last accepted, for the time in which it cannot be asked."""

    __tablename__ = "accepted_password"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"))
    hash: Mapped[str]
    accepted_at: Mapped[datetime]


class SetupToken(Base):
    """The one-time token with which an invited administrator chooses a password; used up = gone."""

    __tablename__ = "setup_token"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]


class TotpFactor(Keyed, Base):
    """A TOTP seed (RFC 6238), encrypted; it counts once confirmed."""

    __tablename__ = "totp_factor"
    __table_args__ = (UniqueConstraint("user_id"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    seed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]


class RecoveryCode(Keyed, Base):
    """A code that replaces the second factor once."""

    __tablename__ = "recovery_code"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None]


class Consent(Keyed, Base):
    """A person agreed to what an application asks for."""

    __tablename__ = "consent"
    __table_args__ = (UniqueConstraint("user_id", "application_id"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"))
    scopes: Mapped[list[str]] = mapped_column(Json)
    at: Mapped[datetime]
