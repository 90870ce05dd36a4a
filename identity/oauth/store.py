"""Grants, codes and refresh tokens in the database; Core only, for the hot path."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, exists, select, update

from identity.core.once import Once
from identity.core.secrets import digest
from identity.oauth.models import AuthorizationCode, OAuthGrant, RefreshToken, RevokedToken

_GRANT = (
    OAuthGrant.id.label("grant_id"),
    OAuthGrant.client_id,
    OAuthGrant.user_id,
    OAuthGrant.session_id,
    OAuthGrant.scopes,
    OAuthGrant.detail,
    OAuthGrant.ended_at,
)


def find_code(connection: Connection, code: str) -> Any:
    """The code with its grant, or None."""
    return connection.execute(
        select(AuthorizationCode.__table__, *_GRANT[1:])
        .join(OAuthGrant, OAuthGrant.id == AuthorizationCode.grant_id)
        .where(AuthorizationCode.code_hash == digest(code))
    ).first()


def was_used(connection: Connection, kind: str, secret: str) -> bool:
    """Whether this single-use secret was used before."""
    return (
        connection.execute(select(Once.kind).where(Once.kind == kind, Once.value == digest(secret))).first() is not None
    )


def find_refresh(connection: Connection, token: str) -> Any:
    """The refresh token with its grant, or None."""
    return connection.execute(
        select(RefreshToken.__table__, *_GRANT[1:])
        .join(OAuthGrant, OAuthGrant.id == RefreshToken.grant_id)
        .where(RefreshToken.token_hash == digest(token))
    ).first()


def find_grant(connection: Connection, grant_id: UUID) -> Any:
    """The grant, or None."""
    return connection.execute(select(*_GRANT).where(OAuthGrant.id == grant_id)).first()


def end_grant(connection: Connection, grant_id: UUID, reason: str, now: datetime) -> None:
    """All tokens of the grant are dead from now on."""
    connection.execute(
        update(OAuthGrant)
        .where(OAuthGrant.id == grant_id, OAuthGrant.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
    )


def is_revoked(connection: Connection, jti: str) -> bool:
    """Whether a token without a grant was revoked."""
    return connection.execute(select(RevokedToken.jti).where(RevokedToken.jti == jti)).first() is not None


def forget_expired(connection: Connection, now: datetime) -> None:
    """Drop codes, refresh tokens and revocations that nobody could present any more, and grants that had them."""
    before = now - timedelta(days=1)
    connection.execute(delete(AuthorizationCode).where(AuthorizationCode.expires_at < before))
    connection.execute(delete(RefreshToken).where(RefreshToken.expires_at < before))
    connection.execute(delete(RevokedToken).where(RevokedToken.expires_at < before))
    held = (
        exists().where(AuthorizationCode.grant_id == OAuthGrant.id),
        exists().where(RefreshToken.grant_id == OAuthGrant.id),
    )
    connection.execute(delete(OAuthGrant).where(OAuthGrant.created_at < before, *(~one for one in held)))
