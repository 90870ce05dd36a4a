"""The OAuth endpoints in front of Flask."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.dialects import postgresql, sqlite

from identity.access.decide import Access
from identity.apps import authenticate
from identity.apps.registry import Apps, Client, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.claims.release import aliased_for, for_scopes, release
from identity.core.db import Database, from_micros
from identity.core.errors import Invalid, TesseraError, Unavailable
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.record import Record
from identity.core.settings import Settings
from identity.keys.keyring import Keyring
from identity.login.session import session_alive
from identity.oauth import store
from identity.oauth.discovery import document
from identity.oauth.models import RevokedToken
from identity.oauth.token import TokenEndpoint
from identity.oauth.tokens import Tokens

CLIENT = "client authentication (RFC 6749 §2.3)"
CACHE_S = 300


def routes(
    settings: Settings,
    database: Database,
    keyring: Keyring,
    registry: Registry,
    access: Access,
    recorder: Recorder,
) -> list[HotRoute]:
    """Token, userinfo, introspection, revocation, keys and discovery."""
    tokens = Tokens(settings.public_url, keyring, settings.access_token_ttl_s)
    door = _Door(settings, database, registry, access, recorder, tokens)
    metadata = document(settings.public_url)

    def describe(_: HotCall) -> HotResponse:
        return HotResponse.public_json(metadata, CACHE_S)

    def keys(_: HotCall) -> HotResponse:
        return HotResponse.public_json(dict(keyring.jwks()), CACHE_S)

    return [
        HotRoute("/oauth/token", ("POST",), door.token, CLIENT),
        HotRoute("/oauth/userinfo", ("GET", "POST"), door.userinfo, "access token (RFC 6750)"),
        HotRoute("/oauth/introspect", ("POST",), door.introspect, "resource server credentials (RFC 7662 §2.1)"),
        HotRoute("/oauth/revoke", ("POST",), door.revoke, CLIENT),
        HotRoute("/oauth/jwks", ("GET",), keys, "public: public keys", cors=True),
        HotRoute("/.well-known/openid-configuration", ("GET",), describe, "public: metadata", cors=True),
        HotRoute("/.well-known/oauth-authorization-server", ("GET",), describe, "public: metadata", cors=True),
    ]


class _Door:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        access: Access,
        recorder: Recorder,
        tokens: Tokens,
    ) -> None:
        self._settings = settings
        self._database = database
        self._registry = registry
        self._access = access
        self._recorder = recorder
        self._tokens = tokens
        self._endpoint = TokenEndpoint(settings, database, access, recorder, tokens)

    def token(self, call: HotCall) -> HotResponse:
        """POST /oauth/token."""
        try:
            form = _form(call)
            apps = self._registry.current()
            client = authenticate.client(apps, call.header("Authorization"), form)
            call.actor = authenticate.as_actor(client.app)
            return HotResponse.json(200, self._endpoint.issue(call, apps, client, form), ("Pragma", "no-cache"))
        except TesseraError as error:
            return self._refuse(call, error)

    def userinfo(self, call: HotCall) -> HotResponse:
        """GET or POST /oauth/userinfo (OpenID Connect Core §5.3)."""
        try:
            claims, client, grant = self._presented(call)
        except Invalid as error:
            return self._refuse_bearer(call, error)
        scopes = tuple(str(claims["scope"]).split())
        snapshot = self._access.snapshot()
        with self._database.read() as connection:
            named = grant.detail.get("claims", {}).get("userinfo", ())
            released = for_scopes(release(connection, snapshot, client.app, grant.user_id, call.now), scopes, named)
        call.actor = authenticate.as_actor(client.app)
        user = snapshot.users[grant.user_id]
        call.records.append(
            Record(
                kind=Kind.USERINFO_RELEASED,
                result="success",
                user=grant.user_id,
                person=user.person_id,
                application=client.app.code,
                data={"released": sorted(released)},
            )
        )
        self._recorder.submit(call, call.records)
        return HotResponse.json(200, {**aliased_for(client.app, released), "sub": claims["sub"]})

    def _presented(self, call: HotCall) -> tuple[dict[str, Any], Client, Any]:
        """The access token's claims, client and live grant; raises `Invalid` with a code of RFC 6750 §3.1."""
        token = _bearer(call)
        if not token:
            raise Invalid("An access token is needed.", code="no_token")
        claims = self._tokens.read_access_token(token, self._tokens.issuer, call.now)
        client = self._registry.current().client(str(claims.get("client_id")))
        grant = self._live_grant(call, claims)
        if grant is None or client is None or not client.app.active or grant.client_id != client.id:
            raise Invalid("The token is not valid.", code="invalid_token")
        call.actor = authenticate.as_actor(client.app)
        if "openid" not in str(claims["scope"]).split():
            raise Invalid("The token does not have the scope openid.", code="insufficient_scope")
        return claims, client, grant

    def _refuse_bearer(self, call: HotCall, error: Invalid) -> HotResponse:
        """The error of RFC 6750 §3.1, recorded before it leaves; without a token nothing but the challenge."""
        if error.code == "no_token":
            return HotResponse.json(401, {}, ("WWW-Authenticate", "Bearer"))
        code = error.code if error.code in _BEARER_STATUS else "invalid_request"
        self._record_refusal(call, code, error.detail)
        scope = ', scope="openid"' if code == "insufficient_scope" else ""
        status = 413 if error.code == "too_large" else _BEARER_STATUS[code]
        return HotResponse.json(status, {"error": code}, ("WWW-Authenticate", f'Bearer error="{code}"{scope}'))

    def introspect(self, call: HotCall) -> HotResponse:
        """POST /oauth/introspect (RFC 7662): only tokens for the asking resource server are active."""
        try:
            form = _form(call)
            apps = self._registry.current()
            app, apis = authenticate.api(apps, call.header("Authorization"))
            call.actor = authenticate.as_actor(app)
            claims = self._introspected(call, apps, _token(form), {api.identifier for api in apis})
        except TesseraError as error:
            return self._refuse(call, error)
        call.records.append(
            Record(
                kind=Kind.TOKEN_INTROSPECTED,
                result="success",
                application=app.code,
                resource_type="token",
                resource_id=str(claims["jti"]) if claims else None,
                data={"active": claims is not None},
            )
        )
        self._recorder.submit(call, call.records)
        if claims is None:
            return HotResponse.json(200, {"active": False})
        return HotResponse.json(200, {"active": True, "token_type": "Bearer", **claims})

    def _introspected(self, call: HotCall, apps: Apps, token: str, audiences: set[str]) -> dict[str, Any] | None:
        try:
            claims = self._tokens.read_access_token(token, None, call.now)
        except Invalid:
            return None
        client = apps.client(str(claims.get("client_id")))
        if claims.get("aud") not in audiences or client is None or not client.app.active:
            return None
        if "gid" in claims:
            grant = self._live_grant(call, claims)
            return None if grant is None else claims | {"roles": self._roles(call, apps, grant, str(claims["aud"]))}
        with self._database.read() as connection:
            return None if store.is_revoked(connection, str(claims["jti"])) else claims

    def _roles(self, call: HotCall, apps: Apps, grant: Any, audience: str) -> list[str]:
        """The person's roles in the asking API's application as they are now, whatever the token says."""
        api = apps.resource_server(audience)
        return list(self._access.snapshot().roles_in(grant.user_id, api.app.code, call.now)) if api else []

    def _live_grant(self, call: HotCall, claims: dict[str, Any]) -> Any:
        """The token's grant while it, its session and its person live."""
        try:
            grant_id = UUID(str(claims.get("gid")))
        except ValueError:
            return None
        with self._database.read() as connection:
            grant = store.find_grant(connection, grant_id)
            if grant is None or grant.ended_at is not None:
                return None
            session = grant.session_id
            if session is not None and not session_alive(connection, session, call.now):
                return None
        return grant if self._access.snapshot().is_active(grant.user_id, call.now) else None

    def revoke(self, call: HotCall) -> HotResponse:
        """POST /oauth/revoke (RFC 7009): 200 also for a token that is not there or not the caller's."""
        try:
            form = _form(call)
            client = authenticate.client(self._registry.current(), call.header("Authorization"), form)
            call.actor = authenticate.as_actor(client.app)
            token = _token(form)
        except TesseraError as error:
            return self._refuse(call, error)
        with self._database.write() as connection:
            row = store.find_refresh(connection, token)
            data: dict[str, Any] = {"found": False}
            if row is not None and row.client_id == client.id:
                store.end_grant(connection, row.grant_id, "revoked", call.now)
                data = {"found": True, "grant": str(row.grant_id)}
            elif row is None:
                data = self._revoke_access_token(connection, call, client.client_id, token)
            record = Record(kind=Kind.TOKEN_REVOKED, result="success", application=client.app.code, data=data)
            self._recorder.write(connection, call, [record], None)
        return HotResponse(200, b"", (("Cache-Control", "no-store"),))

    def _revoke_access_token(self, connection: Any, call: HotCall, client_id: str, token: str) -> dict[str, Any]:
        try:
            claims = self._tokens.read_access_token(token, None, call.now)
        except Invalid:
            return {"found": False}
        if claims["client_id"] != client_id:
            return {"found": False}
        if "gid" in claims:
            store.end_grant(connection, UUID(claims["gid"]), "revoked", call.now)
        else:
            maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            until = from_micros(int(claims["exp"]) * 1_000_000)
            statement = maker(RevokedToken).values(jti=claims["jti"], expires_at=until)
            connection.execute(statement.on_conflict_do_nothing())
        return {"found": True, "jti": claims["jti"]}

    def _refuse(self, call: HotCall, error: TesseraError) -> HotResponse:
        """The error of RFC 6749 §5.2, recorded before it leaves."""
        if isinstance(error, Unavailable):
            raise error
        basic = isinstance(error, authenticate.InvalidClient)
        code = error.code if error.code in _ERRORS else "invalid_request"
        self._record_refusal(call, code, error.detail)
        headers = (("WWW-Authenticate", 'Basic realm="tessera"'),) if basic else ()
        status = 401 if basic else 413 if error.code == "too_large" else 400
        return HotResponse.json(status, {"error": code, "error_description": error.public}, *headers)

    def _record_refusal(self, call: HotCall, reason: str, detail: str) -> None:
        application = call.actor.id if call.actor.kind == "application" else None
        data = {"detail": detail[:200]}
        call.records.append(
            Record(kind=Kind.TOKEN_REFUSED, result="refused", reason=reason, application=application, data=data)
        )
        self._recorder.submit(call, call.records)


_BEARER_STATUS = {"invalid_request": 400, "invalid_token": 401, "insufficient_scope": 403}
_ERRORS = frozenset(
    {
        *("invalid_client", "invalid_grant", "invalid_scope", "invalid_target"),
        *("unauthorized_client", "unsupported_grant_type", "invalid_request"),
    }
)


def _form(call: HotCall) -> dict[str, str]:
    if call.media_type != "application/x-www-form-urlencoded":
        raise Invalid("The body must be application/x-www-form-urlencoded.", code="invalid_request")
    # RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted from the request."
    return {name: value for name, value in call.form().items() if value}


def _token(form: dict[str, str]) -> str:
    """The token that is asked about; raises `Invalid` without one (RFC 7662 §2.1, RFC 7009 §2.1: REQUIRED)."""
    if "token" not in form:
        raise Invalid("token is missing.", code="invalid_request")
    return form["token"]


def _bearer(call: HotCall) -> str:
    """The access token from exactly one place (RFC 6750 §2); raises `Invalid` for two."""
    scheme, _, header = call.header("Authorization").partition(" ")
    found = [header.strip()] if scheme.lower() == "bearer" and header.strip() else []
    if call.method == "POST" and call.media_type == "application/x-www-form-urlencoded":
        sent = call.form().get("access_token")
        found += [sent] if sent else []
    if len(found) > 1:
        raise Invalid("The token stands in two places.", code="invalid_request")
    return found[0] if found else ""
