"""Ticket validation, in front of Flask: a ticket is burnt by the first validation, whatever comes of it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import AlreadyUsed, Recorder, SingleUse
from identity.cas import response
from identity.cas.models import ServiceTicket
from identity.core.db import Database
from identity.core.errors import Invalid, Unavailable
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.once import Once
from identity.core.record import Actor, Record
from identity.core.secrets import digest
from identity.core.settings import Settings
from identity.login.session import session_alive

# §2.1.1: a flag is set when it stands there; "true" is what is recommended.
SET = frozenset({"true", ""})
GUARD = "a service ticket of the service that asks"


def routes(
    settings: Settings, database: Database, registry: Registry, access: Access, recorder: Recorder
) -> list[HotRoute]:
    """serviceValidate (CAS 2.0) and p3/serviceValidate (CAS 3.0, with attributes).

    proxyValidate answers as they do (§2.6.1), because some clients call nothing else; proxy tickets are not issued.
    """
    door = _Door(settings, database, registry, access, recorder)
    return [
        HotRoute(f"/cas{version}/{name}", ("GET",), partial(door.validate, attributes=version == "/p3"), GUARD)
        for version in ("", "/p3")
        for name in ("serviceValidate", "proxyValidate")
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

    def validate(self, call: HotCall, *, attributes: bool) -> HotResponse:
        """§2.5: validate a ticket for the service that asks."""
        as_json = False
        try:
            query = call.query()
            as_json = query.get("format", "").upper() == "JSON"
            code, result = self._validate(call, query)
        except Invalid as error:
            code, result = "INVALID_REQUEST", error.public
        except Unavailable:
            code, result = "INTERNAL_ERROR", "The service cannot validate this now."
        if code:
            text = str(result)
            if as_json:
                return HotResponse.json(200, response.failure_json(code, text))
            return _xml(response.failure_xml(code, text))
        detail: Any = result
        released = detail["attributes"] if attributes else None
        if as_json:
            return HotResponse.json(200, response.success_json(detail["user"], released))
        return _xml(response.success_xml(detail["user"], released))

    def _validate(self, call: HotCall, query: dict[str, str]) -> tuple[str, Any]:
        ticket, service = query.get("ticket", ""), query.get("service", "")
        if not ticket or not service:
            return self._refuse(call, None, "INVALID_REQUEST", "ticket and service are required.")
        with self._database.read() as connection:
            row = connection.execute(
                select(ServiceTicket.__table__).where(ServiceTicket.ticket_hash == digest(ticket))
            ).first()
            alive = row is not None and session_alive(connection, row.session_id, call.now)
        if row is None:
            return self._refuse(call, None, "INVALID_TICKET", "The ticket is not known.")
        app = self._registry.current().application_by_id(row.application_id)
        code, text = "", ""
        if service != row.service:
            code, text = "INVALID_SERVICE", "The ticket is for another service."
        elif "pgtUrl" in query:
            code, text = "UNAUTHORIZED_SERVICE_PROXY", "This server issues no proxy tickets."
        elif call.now >= row.expires_at or not alive or not self._access.snapshot().is_active(row.user_id, call.now):
            code, text = "INVALID_TICKET", "The ticket has expired."
        elif query.get("renew") in SET and not row.fresh_credentials:
            code, text = "INVALID_TICKET", "The ticket was not issued from fresh credentials."
        elif app is None or not app.active:
            code, text = "INVALID_SERVICE", "The application is disabled."
        record = self._record(row, app.code if app else None, code)
        call.actor = Actor("application", app.code, app.name) if app else call.actor
        replay = self._record(row, app.code if app else None, "INVALID_TICKET")
        values = {
            "kind": "cas_ticket",
            "value": row.ticket_hash,
            "expires_at": row.expires_at + timedelta(days=1),
        }
        try:
            self._recorder.submit(call, [record], [SingleUse(Once, values, replay)])
        except AlreadyUsed:
            return "INVALID_TICKET", "The ticket was used before."
        return (code, text) if code else ("", row.detail)

    def _record(self, row: Any, application: str | None, code: str) -> Record:
        return Record(
            kind=Kind.TICKET_REFUSED if code else Kind.TICKET_VALIDATED,
            result="refused" if code else "success",
            reason=code.lower(),
            user=row.user_id,
            person=UUID(row.detail["person"]),
            session=row.session_id,
            application=application,
            data={"service": row.service[:512]},
        )

    def _refuse(self, call: HotCall, application: str | None, code: str, text: str) -> tuple[str, str]:
        record = Record(kind=Kind.TICKET_REFUSED, result="refused", reason=code.lower(), application=application)
        self._recorder.submit(call, [record])
        return code, text


def _xml(body: str) -> HotResponse:
    headers = (("Content-Type", "application/xml; charset=utf-8"), ("Cache-Control", "no-store"))
    return HotResponse(200, body.encode(), headers)
