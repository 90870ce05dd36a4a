"""Making and reading tokens: ID tokens, RFC 9068 access tokens, opaque secrets."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from identity.apps.registry import Apps, Client
from identity.core import jose
from identity.core.errors import Invalid, Unavailable
from identity.core.secrets import new_id
from identity.keys.keyring import Keyring

ACCESS_TOKEN = "at+jwt"  # noqa: S105
ID_TOKEN = "JWT"  # noqa: S105
ID_TOKEN_TTL_S = 300

# RSA releases the GIL: two at once fill two cores, more only queue.
RSA_WAIT_S = 1.0
_rsa = threading.BoundedSemaphore(2)


class Tokens:
    """Makes and reads this issuer's tokens."""

    def __init__(self, issuer: str, keyring: Keyring, access_token_ttl_s: int) -> None:
        self.issuer = issuer
        self._keyring = keyring
        self.ttl_s = access_token_ttl_s

    def access_token(
        self,
        audience: str,
        subject: str,
        client_id: str,
        scopes: tuple[str, ...],
        now: datetime,
        extra: Mapping[str, Any],
    ) -> tuple[str, str]:
        """A JWT access token (RFC 9068 §2.2) and its jti."""
        jti = str(new_id())
        at = int(now.timestamp())
        claims = {
            **extra,
            "iss": self.issuer,
            "aud": audience,
            "sub": subject,
            "client_id": client_id,
            "scope": " ".join(scopes),
            "iat": at,
            "exp": at + self.ttl_s,
            "jti": jti,
        }
        return self._sign(claims, ACCESS_TOKEN), jti

    def id_token(self, client_id: str, subject: str, access_token: str, now: datetime, extra: Mapping[str, Any]) -> str:
        """An ID token (OpenID Connect Core §2) with `at_hash`."""
        at = int(now.timestamp())
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = {
            **extra,
            "iss": self.issuer,
            "aud": client_id,
            "sub": subject,
            "iat": at,
            "exp": at + ID_TOKEN_TTL_S,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }
        return self._sign(claims, ID_TOKEN)

    def logout_token(self, client_id: str, subject: str, sid: str, now: datetime) -> str:
        """A logout token (OpenID Connect Back-Channel Logout 1.0 §2.4): no nonce, two minutes."""
        at = int(now.timestamp())
        claims = {
            "iss": self.issuer,
            "aud": client_id,
            "sub": subject,
            "sid": sid,
            "iat": at,
            "exp": at + 120,
            "jti": str(new_id()),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        return self._sign(claims, "logout+jwt")

    def read_access_token(self, token: str, audience: str | None, now: datetime) -> dict[str, Any]:
        """The claims of an access token of ours; raises `Invalid` (code `invalid_token`)."""
        keys = self._keyring.verify_keys("oidc-sign")
        return jose.verify(token, keys, typ=(ACCESS_TOKEN,), iss=self.issuer, aud=audience, now=now)

    def read_id_token_hint(self, token: str, now: datetime) -> dict[str, Any]:
        """The claims of an ID token of ours, also an expired one (RP-Initiated Logout 1.0 §2)."""
        keys = self._keyring.verify_keys("oidc-sign")
        return jose.verify(token, keys, typ=(ID_TOKEN,), iss=self.issuer, aud=None, now=now, check_exp=False)

    def successor(self, refresh_token: str) -> str:
        """The refresh token that follows this one: always the same, so a lost answer can be repeated."""
        return "rt_" + base64.urlsafe_b64encode(self._keyring.derive("refresh", refresh_token)).rstrip(b"=").decode()

    def _sign(self, claims: Mapping[str, Any], typ: str) -> str:
        if not _rsa.acquire(timeout=RSA_WAIT_S):
            raise Unavailable("Too many tokens at once. Please try again.", "signing queue is full", code="sign_queue")
        try:
            return jose.sign(self._keyring.sign_key("oidc-sign"), claims, typ)
        finally:
            _rsa.release()


def target_of(
    apps: Apps, client: Client, issuer: str, scopes: tuple[str, ...], resource: str | None
) -> tuple[str, tuple[str, ...]]:
    """Whom an access token is for, and with which scopes (RFC 8707 §2.2).

    The resource asked for, else userinfo (the issuer) for OpenID scopes, else the client's only resource. A token for
    a resource server carries that server's scopes only. Raises `Invalid` (code `invalid_target`).
    """
    if resource is None:
        if "openid" in scopes or len(client.resources) != 1:
            return issuer, scopes
        resource = client.resources[0]
    api = apps.resource_server(resource)
    if resource not in client.resources or api is None or not api.app.active:
        raise Invalid("This resource may not be asked for.", code="invalid_target")
    return resource, tuple(one for one in scopes if one in api.scopes)
