"""Asked by a proxy, in front of Flask: whether a request may pass, and the end of a sign-in at its host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from identity.access.decide import Access, AccessRequest
from identity.access.durable import DurableAccess
from identity.apps.authenticate import InvalidClient
from identity.apps.caller import known_caller
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.claims.release import release
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.record import Record
from identity.core.secrets import digest, equal, new_secret
from identity.core.settings import Settings
from identity.forward import wire
from identity.forward.models import ForwardCode, ForwardSession
from identity.forward.wire import Target
from identity.login.session import session_alive

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
GUARD = "application credentials (HTTP Basic) of the proxy; the person's session at the proxied host"


def routes(
    settings: Settings, database: Database, registry: Registry, access: Access, recorder: Recorder
) -> list[HotRoute]:
    """`/forward/auth` for each request, `/forward/callback` behind the host's own `/_tessera/callback`."""
    door = _Door(settings, database, registry, access, recorder)
    return [
        HotRoute("/forward/auth", ("GET",), door.auth, GUARD),
        HotRoute("/forward/callback", ("GET",), door.callback, GUARD),
    ]


class _Door:
    def __init__(
        self, settings: Settings, database: Database, registry: Registry, access: Access, recorder: Recorder
    ) -> None:
        self._settings = settings
        self._database = database
        self._registry = registry
        self._access = access
        self._recorder = recorder
        self._durable = DurableAccess(access, database, recorder)

    def auth(self, call: HotCall) -> HotResponse:
        """200 with who it is, 403 when the policy says no, 401 with a `Location` to sign in at.

        With `?redirect=1` the last is a 302, for proxies that pass on what they are answered.
        """
        return self._guarded(call, self._auth)

    def callback(self, call: HotCall) -> HotResponse:
        """Take the code of a finished sign-in once, in the browser that began it: a session at this host."""
        return self._guarded(call, self._callback)

    def _guarded(self, call: HotCall, handle: Callable[[HotCall, App, Target], HotResponse]) -> HotResponse:
        """What a proxy is answered that proved itself. Anything else is a 403: a 401 would send people to sign in."""
        try:
            app = known_caller(call, self._registry)
        except InvalidClient as error:
            return _denied(error.code)
        try:
            return handle(call, app, wire.target(call, self._registry.current(), app))
        except Invalid as error:
            data = {"detail": error.detail[:512]} if error.detail else {}
            record = Record(kind=Kind.FORWARD_REFUSED, result="refused", reason=error.code, application=app.code)
            record.data = data
            return self._refuse(call, record)

    def _auth(self, call: HotCall, app: App, asked: Target) -> HotResponse:
        secret = wire.read_cookie(call, asked.host, "auth")
        with self._database.read() as connection:
            row = self._session(connection, call, asked, secret) if secret else None
        if row is None:
            return self._unknown(call, asked)
        wanted = asked.host.asks(asked.method, asked.resource_id)
        if wanted is None:
            raise Invalid("This method is not allowed.", asked.method, code="forward_method")
        resource_type, action = wanted
        # What is not only looked at is carried out once we have answered.
        intent = "ask" if asked.method in SAFE_METHODS else "perform"
        request = AccessRequest(
            app.code, row.user_id, resource_type, asked.resource_id, action, intent=intent, acr=row.acr, sid=row.sid
        )
        decided = self._durable.decide(call, app, request, self._access.snapshot())
        if not decided.permit:
            return _denied(decided.reason)
        if decided.obligations:
            # A proxy cannot meet them. The decision is durable already.
            call.records.clear()
            raise Invalid("This needs an application that meets obligations.", code="obligation")
        with self._database.read() as connection:
            released = release(connection, decided.snapshot, app, row.user_id, call.now)
        return HotResponse(200, b"", (("Cache-Control", "no-store"), *wire.identity_headers(released)))

    def _session(self, connection: Connection, call: HotCall, asked: Target, secret: str) -> Any:
        """The live session of this cookie at this host, of an identity that may act; None for any other."""
        row = connection.execute(
            select(ForwardSession.__table__).where(
                ForwardSession.secret_hash == digest(secret),
                ForwardSession.host_id == asked.host.id,
                ForwardSession.expires_at > call.now,
            )
        ).first()
        if row is None or not session_alive(connection, row.session_id, call.now):
            return None
        return row if self._access.snapshot().is_active(row.user_id, call.now) else None

    def _unknown(self, call: HotCall, asked: Target) -> HotResponse:
        empty = wire.identity_headers({})
        if not wire.wants_page(call, asked):
            return HotResponse.json(401, {"error": "login_required"}, *empty)
        state = wire.state_of(call, asked.host)
        headers = (
            ("Location", wire.sign_in_address(self._settings.public_url, asked, state)),
            wire.cookie(asked.host, "state", state, wire.STATE_S),
        )
        status = 302 if call.query().get("redirect") == "1" else 401
        return HotResponse.json(status, {"error": "login_required"}, *headers, *empty)

    def _callback(self, call: HotCall, app: App, asked: Target) -> HotResponse:
        code, state = call.query().get("code", ""), wire.read_cookie(call, asked.host, "state")
        secret = new_secret("fws")
        with self._database.write() as connection:
            row: Any = connection.execute(
                delete(ForwardCode).where(ForwardCode.code_hash == digest(code)).returning(*ForwardCode.__table__.c)
            ).first()
            reason = self._refusal(connection, call, asked, row, state)
            if not reason:
                kept = ("host_id", "user_id", "session_id", "sid", "acr")
                values = {name: getattr(row, name) for name in kept} | {"expires_at": row.session_expires_at}
                made = {"secret_hash": digest(secret), "created_at": call.now, **values}
                connection.execute(insert(ForwardSession).values(**made))
            call.records.append(self._entered(app, row, reason))
            self._recorder.write(connection, call, call.records, None)
        if reason:
            return _text(
                400, "This sign-in cannot be finished here. Please open the page again. 登录未能完成，请重新打开页面。"
            )
        headers = (wire.cookie(asked.host, "auth", secret, None), wire.cookie(asked.host, "state", "", 0))
        location = ("Location", f"{asked.host.origin}{row.return_to}")
        return HotResponse(303, b"", (location, ("Cache-Control", "no-store"), *headers))

    def _refusal(self, connection: Connection, call: HotCall, asked: Target, row: Any, state: str) -> str:
        """Why this code opens nothing here; empty when it does."""
        if row is None or call.now >= row.expires_at or row.host_id != asked.host.id:
            return "invalid_grant"
        if not state or not equal(wire.state_hash(state).encode(), row.state_hash.encode()):
            return "no_transaction"
        active = self._access.snapshot().is_active(row.user_id, call.now)
        return "" if active and session_alive(connection, row.session_id, call.now) else "no_session"

    def _entered(self, app: App, row: Any, reason: str) -> Record:
        user = self._access.snapshot().user(row.user_id) if row is not None else None
        return Record(
            kind=Kind.FORWARD_REFUSED if reason else Kind.FORWARD_STARTED,
            result="refused" if reason else "success",
            reason=reason,
            user=row.user_id if row is not None else None,
            person=user.person_id if user else None,
            session=row.session_id if row is not None else None,
            application=app.code,
        )

    def _refuse(self, call: HotCall, record: Record) -> HotResponse:
        call.records.append(record)
        self._recorder.submit(call, call.records)
        return _denied(record.reason)


def _denied(reason: str) -> HotResponse:
    return HotResponse.json(403, {"error": "access_denied", "reason": reason}, *wire.identity_headers({}))


def _text(status: int, text: str) -> HotResponse:
    return HotResponse(
        status, text.encode(), (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
    )
