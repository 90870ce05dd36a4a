"""Telling clients that a session is over (OpenID Connect Back-Channel Logout 1.0), and ending their grants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from identity.apps.models import OidcClient
from identity.apps.registry import Registry
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.events.deliver import Composers
from identity.events.outbox import send
from identity.keys.keyring import Keyring
from identity.login.logout import LogoutNotifiers, Participant
from identity.oauth.models import OAuthGrant
from identity.oauth.tokens import Tokens
from identity.people.models import User

KIND = "oidc_logout"


def register(
    notifiers: LogoutNotifiers, composers: Composers, keyring: Keyring, registry: Registry, settings: Settings
) -> None:
    """Bind this door's notifier, and how its messages are made when they are sent: a logout token lives two minutes,
    and its receiver may be down for longer."""
    tokens = Tokens(settings.public_url, keyring, settings.access_token_ttl_s)

    def notify(unit: Unit, participant: Participant) -> None:
        unit.db.execute(
            update(OAuthGrant)
            .where(OAuthGrant.session_id == participant.session_id, OAuthGrant.ended_at.is_(None))
            .values(ended_at=unit.now, end_reason="logout")
        )
        user = unit.db.get(User, participant.user_id)
        for client in registry.current().clients.values():
            if client.app.id == participant.app_id and client.backchannel_logout_uri and user is not None:
                payload = {"client_id": client.client_id, "sub": str(user.sub), "sid": participant.sid}
                send(unit, KIND, client.backchannel_logout_uri, payload, f"oidc:{client.client_id}:{participant.sid}")

    def compose(payload: Mapping[str, Any], now: datetime) -> Mapping[str, str]:
        token = tokens.logout_token(payload["client_id"], payload["sub"], payload["sid"], now)
        return {"logout_token": token}

    def end_offline(unit: Unit, user_id: UUID, app_id: UUID | None) -> None:
        grants = update(OAuthGrant).where(OAuthGrant.user_id == user_id, OAuthGrant.ended_at.is_(None))
        if app_id is None:
            grants = grants.where(OAuthGrant.session_id.is_(None))
        else:
            grants = grants.where(
                OAuthGrant.client_id.in_(select(OidcClient.id).where(OidcClient.application_id == app_id))
            )
        unit.db.execute(grants.values(ended_at=unit.now, end_reason="withdrawn"))

    composers.register(KIND, compose)
    notifiers.register("oauth", notify, end_offline)
