"""The narrow waist between the doors and the login: what a door asks for, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from identity.access.decide import Decided
from identity.apps.registry import App

ACR_PASSWORD = "urn:tessera:acr:password"  # noqa: S105
ACR_MFA = "urn:tessera:acr:mfa"
# Authentication methods (RFC 8176 and our own): a password that the directory accepted before it went away.
CACHED = "cached"
SECOND_FACTORS = frozenset({"otp", "recovery"})
ACR_CACHED = "urn:tessera:acr:cached"
ACR_RANK: Mapping[str, int] = {ACR_CACHED: 0, ACR_PASSWORD: 1, ACR_MFA: 2}


@dataclass(frozen=True, slots=True)
class AcrRequest:
    """Which authentication contexts are asked for; `essential` = another one is an error."""

    values: tuple[str, ...]
    comparison: Literal["exact", "minimum", "maximum", "better"] = "minimum"
    essential: bool = False

    def met_by(self, acr: str) -> bool:
        """Whether this context satisfies the request."""
        if self.comparison == "exact":
            return acr in self.values
        ranks = [ACR_RANK[value] for value in self.values if value in ACR_RANK]
        if not ranks:
            return False
        rank = ACR_RANK[acr]
        if self.comparison == "maximum":
            return rank <= max(ranks)
        return rank > max(ranks) if self.comparison == "better" else rank >= min(ranks)


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What a door asks for. `reply` is the door's own, opaque here; `return_to` is where the browser goes at last."""

    app_id: UUID | None
    door: str
    prompts: frozenset[str] = frozenset()
    max_age_s: int | None = None
    acr: AcrRequest | None = None
    required_user: UUID | None = None
    login_hint: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    channel: Literal["browser"] = "browser"
    reply: Mapping[str, Any] = field(default_factory=dict)
    return_to: str = ""
    require_consent: bool = False
    scopes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "app_id": str(self.app_id) if self.app_id else None,
            "door": self.door,
            "prompts": sorted(self.prompts),
            "max_age_s": self.max_age_s,
            "acr": [list(self.acr.values), self.acr.comparison, self.acr.essential] if self.acr else None,
            "required_user": str(self.required_user) if self.required_user else None,
            "login_hint": self.login_hint,
            "claims": dict(self.claims),
            "reply": dict(self.reply),
            "return_to": self.return_to,
            "require_consent": self.require_consent,
            "scopes": list(self.scopes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LoginRequest:
        acr = data["acr"]
        return cls(
            app_id=UUID(data["app_id"]) if data["app_id"] else None,
            door=data["door"],
            prompts=frozenset(data["prompts"]),
            max_age_s=data["max_age_s"],
            acr=AcrRequest(tuple(acr[0]), acr[1], acr[2]) if acr else None,
            required_user=UUID(data["required_user"]) if data["required_user"] else None,
            login_hint=data["login_hint"],
            claims=data["claims"],
            reply=data["reply"],
            return_to=data["return_to"],
            require_consent=data["require_consent"],
            scopes=tuple(data["scopes"]),
        )


@dataclass(frozen=True, slots=True)
class SessionView:
    """A live session. `partial` = a second factor is still owed, so nothing but giving it is allowed."""

    id: UUID
    surface: str
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    auth_time: datetime
    acr: str
    amr: tuple[str, ...]
    partial: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything is there to finish: the door opens a Unit and calls `flow.finish`."""

    request: LoginRequest
    session: SessionView
    started_at: datetime
    transaction_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """A completed sign-in. `fresh_credentials`: they were given for this very request."""

    app: App
    user_id: UUID
    sub: str
    login: str
    person_id: UUID
    session_id: UUID
    session_sid: str
    session_expires_at: datetime
    auth_time: datetime
    acr: str
    amr: tuple[str, ...]
    fresh_credentials: bool
    released: Mapping[str, Any]
    roles: tuple[str, ...]
    decided: Decided
    reply: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No sign-in; `reason` is a stable code that the door turns into its protocol's error."""

    reason: str
    reply: Mapping[str, Any]
    app: App | None
