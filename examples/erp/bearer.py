"""Access tokens at the API: RFC 9068 tokens, checked here by the server's public keys (RFC 6750 errors)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry, decode

from examples.shared.keys import ServerKeys

TOKEN_MAX = 16_384


class BearerError(Exception):
    """Why a call is refused: HTTP status and RFC 6750 §3.1 error code ("" = no token was sent)."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description


@dataclass(frozen=True)
class Caller:
    """On whose behalf, by which client, with which scopes."""

    sub: str
    client_id: str
    scopes: frozenset[str]


class AccessTokens:
    """Checks the tokens of one issuer for one API, without asking the server."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = ServerKeys(issuer)

    def check(self, authorization: str, scope: str) -> Caller:
        """The caller behind an Authorization header; raises `BearerError`, or `KeysUnavailable`.

        A token stays good here until it expires (five minutes at most), also when it was revoked meanwhile; the
        decision point, asked for each act, knows of a leaver at once.
        """
        scheme, _, token = authorization.partition(" ")
        if not authorization:
            raise BearerError(401, "", "")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_MAX:
            raise BearerError(401, "invalid_request", "An access token is expected as Bearer.")
        claims = self._claims(token)
        scopes = frozenset(str(claims.get("scope", "")).split())
        if scope not in scopes:
            raise BearerError(403, "insufficient_scope", f"The token lacks the scope {scope}.")
        return Caller(claims["sub"], claims["client_id"], scopes)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            found = decode(token, self._keys.find, registry=JWSRegistry(algorithms=["RS256", "ES256"]))
            # RFC 9068 §4: typ first, so that no ID or logout token passes for an access token.
            if str(found.header.get("typ", "")).lower().removeprefix("application/") != "at+jwt":
                raise ValueError("not an access token")
            JWTClaimsRegistry(
                leeway=10,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._audience},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                client_id={"essential": True},
            ).validate(found.claims)
        except (JoseError, ValueError) as error:
            raise BearerError(401, "invalid_token", "The access token is not valid.") from error
        return dict(found.claims)
