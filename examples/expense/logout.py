"""Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.6)."""

from __future__ import annotations

import threading
import time
from typing import Any

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry, decode

from examples.shared.keys import ServerKeys

EVENT = "http://schemas.openid.net/event/backchannel-logout"
FRESH_S = 300


class LogoutTokens:
    """Reads the logout tokens of one issuer for one client, each once."""

    def __init__(self, issuer: str, client_id: str) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._keys = ServerKeys(issuer)
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a valid, fresh, unused logout token, or None."""
        try:
            found = decode(token, self._keys.find, registry=JWSRegistry(algorithms=["RS256", "ES256"]))
            JWTClaimsRegistry(
                leeway=30,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._client_id},
                exp={"essential": True},
                iat={"essential": True},
                jti={"essential": True},
            ).validate(found.claims)
        except (JoseError, ValueError):
            return None
        claims = found.claims
        events = claims.get("events")
        # "A nonce Claim MUST NOT be present": else an ID token could be played here.
        if found.header.get("typ") != "logout+jwt" or "nonce" in claims or not isinstance(events, dict):
            return None
        if EVENT not in events or not (claims.get("sid") or claims.get("sub")) or not self._first_time(claims["jti"]):
            return None
        return dict(claims)

    def _first_time(self, jti: str) -> bool:
        now = time.monotonic()
        with self._lock:
            self._seen = {one: at for one, at in self._seen.items() if now - at < FRESH_S}
            if jti in self._seen:
                return False
            self._seen[jti] = now
        return True
