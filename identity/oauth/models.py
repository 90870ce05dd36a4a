"""Tables of OAuth 2: what was granted, and the codes and refresh tokens that hang on it, as digests."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class OAuthGrant(Keyed, Base):
    """What a person granted a client in a session; every token of it carries its id (`gid`)."""

    __tablename__ = "oauth_grant"

    client_id: Mapped[UUID] = mapped_column(ForeignKey("oidc_client.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("login_session.id"), index=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None]


class AuthorizationCode(Base):
    """A code (RFC 6749 §4.1.2): 60 s, once."""

    __tablename__ = "authorization_code"

    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("oauth_grant.id"))
    redirect_uri: Mapped[str]
    code_challenge: Mapped[str | None]
    nonce: Mapped[str | None]
    expires_at: Mapped[datetime]


class RefreshToken(Base):
    """A refresh token of a grant; a used one that comes again ends the grant."""

    __tablename__ = "refresh_token"
    __table_args__ = (UniqueConstraint("grant_id", "generation"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("oauth_grant.id"))
    generation: Mapped[int]
    created_at: Mapped[datetime]
    idle_until: Mapped[datetime]
    expires_at: Mapped[datetime]


class RevokedToken(Base):
    """An access token without a grant that was revoked before its end."""

    __tablename__ = "revoked_token"

    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
