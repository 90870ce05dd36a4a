"""The token endpoint (RFC 6749 §3.2): three grants, one way to authenticate, one way to record."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

from identity.access.decide import Access, AccessRequest, Decided
from identity.apps.registry import Apps, Client
from identity.audit.kinds import Kind
from identity.audit.recorder import AlreadyUsed, Recorder, SingleUse
from identity.claims.release import aliased_for, for_scopes, release
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall
from identity.core.once import Once
from identity.core.record import Record
from identity.core.secrets import digest, equal, new_id, new_secret
from identity.core.settings import Settings
from identity.login.session import session_alive
from identity.oauth import store
from identity.oauth.models import RefreshToken
from identity.oauth.tokens import Tokens, target_of

VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
REFRESH_GRACE_S = 10
CODE, REFRESH = "oauth_code", "oauth_refresh"


class GrantError(Invalid):
    """An error of the token endpoint (RFC 6749 §5.2); `code` is its wire name."""


class TokenEndpoint:
    """Turns a grant into tokens."""

    def __init__(
        self, settings: Settings, database: Database, access: Access, recorder: Recorder, tokens: Tokens
    ) -> None:
        self._settings = settings
        self._database = database
        self._access = access
        self._recorder = recorder
        self._tokens = tokens

    def issue(self, call: HotCall, apps: Apps, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """The token answer; raises `GrantError`."""
        grant_type = form.get("grant_type", "")
        if grant_type not in {"authorization_code", "refresh_token", "client_credentials"}:
            missing = not grant_type
            raise GrantError(
                "This grant type is not supported.",
                code="invalid_request" if missing else "unsupported_grant_type",
            )
        # RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential clients."
        if grant_type not in client.grant_types or (grant_type == "client_credentials" and client.public):
            raise GrantError("This client may not use this grant type.", code="unauthorized_client")
        if grant_type == "client_credentials":
            return self._client_credentials(call, apps, client, form)
        return (self._code if grant_type == "authorization_code" else self._refresh)(call, apps, client, form)

    def _client_credentials(self, call: HotCall, apps: Apps, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        own = tuple(one for one in client.scopes if one not in {"openid", "offline_access"})
        asked = _narrowed(own, form.get("scope"))
        audience, scopes = target_of(apps, client, self._tokens.issuer, asked, form.get("resource"))
        token, jti = self._tokens.access_token(audience, client.client_id, client.client_id, scopes, call.now, {})
        call.records.append(
            Record(
                kind=Kind.TOKEN_ISSUED,
                result="success",
                application=client.app.code,
                resource_type="token",
                resource_id=jti,
                data={"grant_type": "client_credentials", "audience": audience, "scopes": list(scopes)},
            )
        )
        self._recorder.submit(call, call.records)
        return self._answer(token, scopes)

    def _code(self, call: HotCall, apps: Apps, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        code = form.get("code", "")
        if not code:
            raise GrantError("code is missing.", code="invalid_request")
        with self._database.read() as connection:
            row = store.find_code(connection, code)
            used = row is not None and store.was_used(connection, CODE, code)
        if row is None or row.client_id != client.id or row.ended_at is not None:
            raise GrantError("The code is not valid.", code="invalid_grant")
        if call.now >= row.expires_at and not used:
            raise GrantError("The code has expired.", code="invalid_grant")
        if "redirect_uri" not in form:
            raise GrantError("redirect_uri is missing.", code="invalid_request")
        if form["redirect_uri"] != row.redirect_uri:
            raise GrantError("redirect_uri is not that of the request.", code="invalid_grant")
        _check_verifier(row.code_challenge, form.get("code_verifier"))
        if used:
            self._end_family(call, client, row, "replay")
        rows = [self._once(call, CODE, code, client, row)]
        # OpenID Connect Core §11: a refresh token that lives on without the session needs offline_access.
        refresh = None
        if "refresh_token" in client.grant_types:
            refresh = new_secret("rt")
            rows.append(self._refresh_row(call, refresh, row.grant_id, 1, None))
        try:
            return self._finish(call, apps, client, row, tuple(row.scopes), form, refresh, rows, nonce=row.nonce)
        except AlreadyUsed:
            self._end_family(call, client, row, "replay")

    def _refresh(self, call: HotCall, apps: Apps, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        token = form.get("refresh_token", "")
        if not token:
            raise GrantError("refresh_token is missing.", code="invalid_request")
        successor = self._tokens.successor(token)
        with self._database.read() as connection:
            row = store.find_refresh(connection, token)
            follower = store.find_refresh(connection, successor)
        if row is None or row.client_id != client.id or row.ended_at is not None:
            raise GrantError("The refresh token is not valid.", code="invalid_grant")
        if call.now >= min(row.idle_until, row.expires_at):
            raise GrantError("The refresh token has expired.", code="invalid_grant")
        scopes = _narrowed(tuple(row.scopes), form.get("scope"))
        if follower is None:
            rows = [
                self._once(call, REFRESH, token, client, row),
                self._refresh_row(call, successor, row.grant_id, row.generation + 1, row.expires_at),
            ]
            try:
                return self._finish(call, apps, client, row, scopes, form, successor, rows, nonce=None)
            except AlreadyUsed:
                # Another request with this token was first; the client gets what that one got.
                with self._database.read() as connection:
                    follower = store.find_refresh(connection, successor)
        if follower is None or call.now - follower.created_at > timedelta(seconds=REFRESH_GRACE_S):
            self._end_family(call, client, row, "replay")
        return self._finish(call, apps, client, row, scopes, form, successor, [], nonce=None)

    def _finish(  # noqa: PLR0913
        self,
        call: HotCall,
        apps: Apps,
        client: Client,
        row: Any,
        scopes: tuple[str, ...],
        form: Mapping[str, str],
        refresh: str | None,
        rows: list[SingleUse],
        *,
        nonce: str | None,
    ) -> dict[str, Any]:
        decided = self._decide_again(call, client, row)
        granted = row.detail.get("resource")
        # RFC 8707 §2.2: never another resource than the person was asked about.
        if granted is not None and form.get("resource", granted) != granted:
            raise GrantError("This resource was not granted.", code="invalid_target")
        audience, token_scopes = target_of(apps, client, self._tokens.issuer, scopes, form.get("resource", granted))
        user = decided.snapshot.users[row.user_id]
        extra: dict[str, Any] = {
            "gid": str(row.grant_id),
            "auth_time": row.detail["auth_time"],
            "acr": row.detail["acr"],
        }
        api = apps.resource_server(audience)
        target = api.app.code if api else client.app.code
        extra["roles"] = list(decided.snapshot.roles_in(row.user_id, target, call.now))
        token, jti = self._tokens.access_token(audience, user.sub, client.client_id, token_scopes, call.now, extra)
        answer = self._answer(token, token_scopes)
        if refresh is not None:
            answer["refresh_token"] = refresh
        released: dict[str, Any] = {}
        if "openid" in scopes:
            released = self._released(call, client, row, scopes, decided)
            answer["id_token"] = self._id_token(call, client, row, user.sub, token, released, nonce)
        kind = Kind.TOKEN_ISSUED if form["grant_type"] == "authorization_code" else Kind.TOKEN_REFRESHED
        data = {"audience": audience, "scopes": list(scopes), "roles": extra["roles"], "released": sorted(released)}
        call.records.append(_issued(kind, client, row, decided, jti, data))
        try:
            self._recorder.submit(call, call.records, rows)
        except AlreadyUsed:
            call.records.clear()  # what came too late was not done, so nothing says that it was (foundations §6)
            raise
        return answer

    def _released(
        self, call: HotCall, client: Client, row: Any, scopes: tuple[str, ...], decided: Decided
    ) -> dict[str, Any]:
        with self._database.read() as connection:
            released = release(connection, decided.snapshot, client.app, row.user_id, call.now)
        return for_scopes(released, scopes, row.detail.get("claims", {}).get("id_token", ()))

    def _id_token(
        self,
        call: HotCall,
        client: Client,
        row: Any,
        sub: str,
        token: str,
        released: Mapping[str, Any],
        nonce: str | None,
    ) -> str:
        extra = {
            **aliased_for(client.app, released),
            "auth_time": row.detail["auth_time"],
            "acr": row.detail["acr"],
            "amr": row.detail["amr"],
            "sid": row.detail["sid"],
        }
        if nonce is not None:
            extra["nonce"] = nonce
        return self._tokens.id_token(client.client_id, sub, token, call.now, extra)

    def _decide_again(self, call: HotCall, client: Client, row: Any) -> Decided:
        """The person may have been disabled, signed out or lost the application since the authorization."""
        with self._database.read() as connection:
            alive = row.session_id is None or session_alive(connection, row.session_id, call.now)
        app = client.app
        wanted = AccessRequest(app.code, row.user_id, "application", app.code, "sso", acr=row.detail["acr"])
        decided = self._access.decide(call, wanted)
        if not decided.snapshot.is_active(row.user_id, call.now):
            self._end_family(call, client, row, "user_inactive")
        if not alive:
            self._end_family(call, client, row, "session_over")
        if not decided.permit:
            raise GrantError("The sign-in behind this grant is over.", code="invalid_grant")
        return decided

    def _end_family(self, call: HotCall, client: Client, row: Any, reason: str) -> NoReturn:
        """All tokens of the grant die; always raises `GrantError`.

        RFC 9700 §4.14: a used code or refresh token that comes again ends the whole family.
        """
        with self._database.write() as connection:
            store.end_grant(connection, row.grant_id, reason, call.now)
            record = Record(
                kind=Kind.TOKEN_REVOKED,
                result="success",
                reason=reason,
                user=row.user_id,
                application=client.app.code,
                data={"grant": str(row.grant_id)},
            )
            self._recorder.write(connection, call, [record], None)
        text = "This was used already." if reason == "replay" else "The sign-in behind this grant is over."
        raise GrantError(text, code="invalid_grant")

    def _once(self, call: HotCall, kind: str, value: str, client: Client, row: Any) -> SingleUse:
        until = call.now + timedelta(seconds=self._settings.refresh_absolute_s)
        values = {"kind": kind, "value": digest(value), "expires_at": until}
        reason = "replay" if kind == CODE else "parallel"
        return SingleUse(Once, values, _refusal(client, row.user_id, row.grant_id, reason))

    def _refresh_row(
        self,
        call: HotCall,
        token: str,
        grant_id: UUID,
        generation: int,
        expires_at: Any,
    ) -> SingleUse:
        values = {
            "token_hash": digest(token),
            "grant_id": grant_id,
            "generation": generation,
            "created_at": call.now,
            "idle_until": call.now + timedelta(seconds=self._settings.refresh_idle_s),
            "expires_at": expires_at or call.now + timedelta(seconds=self._settings.refresh_absolute_s),
        }
        return SingleUse(RefreshToken, values, None)

    def _answer(self, token: str, scopes: tuple[str, ...]) -> dict[str, Any]:
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self._tokens.ttl_s,
            "scope": " ".join(scopes),
        }


def _issued(kind: Kind, client: Client, row: Any, decided: Decided, jti: str, data: dict[str, Any]) -> Record:
    return Record(
        kind=kind,
        result="success",
        user=row.user_id,
        person=decided.snapshot.users[row.user_id].person_id,
        session=row.session_id,
        application=client.app.code,
        resource_type="token",
        resource_id=jti,
        policy_version=decided.policy_version,
        facts_revision=decided.facts_revision,
        data={"grant": str(row.grant_id), **data},
    )


def _refusal(client: Client, user_id: UUID, grant_id: UUID, reason: str) -> Record:
    return Record(
        kind=Kind.TOKEN_REFUSED,
        result="refused",
        reason=reason,
        user=user_id,
        application=client.app.code,
        data={"grant": str(grant_id), "id": str(new_id())},
    )


def _narrowed(granted: tuple[str, ...], asked: str | None) -> tuple[str, ...]:
    """The scopes asked for, none of them beyond what was granted (RFC 6749 §6)."""
    if asked is None:
        return granted
    wanted = tuple(dict.fromkeys(asked.split()))
    if not wanted or not set(wanted) <= set(granted):
        raise GrantError("More was asked for than was granted.", code="invalid_scope")
    return wanted


def _check_verifier(challenge: str | None, verifier: str | None) -> None:
    """RFC 7636 §4.6; a verifier without a challenge is a downgrade and refused (RFC 9700 §4.8.2)."""
    if challenge is None and verifier is None:
        return
    if verifier is not None and not VERIFIER.fullmatch(verifier):
        raise GrantError("code_verifier is not valid.", code="invalid_request")
    hashed = base64.urlsafe_b64encode(hashlib.sha256((verifier or "").encode()).digest()).rstrip(b"=").decode()
    if challenge is None or verifier is None or not equal(hashed, challenge):
        raise GrantError("code_verifier does not fit.", code="invalid_grant")
