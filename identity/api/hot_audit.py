"""Heads, inclusion and consistency proofs over HTTP, for applications that hold the right `audit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from identity.apps import authenticate
from identity.apps.registry import Registry
from identity.audit import proofs
from identity.audit.kinds import Kind
from identity.audit.note import stamp
from identity.audit.recorder import Recorder
from identity.audit.status import proof_status
from identity.core.db import Database
from identity.core.errors import Invalid, NotFound
from identity.core.hot import HotCall, HotResponse, HotRoute, parse_uuid
from identity.core.record import Record

GUARD = "application credentials (HTTP Basic) with the right audit"
RIGHT = "audit"

Answer = Callable[[Connection, HotCall], dict[str, Any]]


def routes(registry: Registry, database: Database, recorder: Recorder) -> list[HotRoute]:
    """`/api/v1/audit/heads | inclusion | consistency`."""
    door = _Door(registry, database, recorder)
    return [
        HotRoute("/api/v1/audit/heads", ("GET",), lambda call: door.answer(call, _heads), GUARD),
        HotRoute("/api/v1/audit/inclusion", ("GET",), lambda call: door.answer(call, _inclusion), GUARD),
        HotRoute("/api/v1/audit/consistency", ("GET",), lambda call: door.answer(call, _consistency), GUARD),
    ]


class _Door:
    def __init__(self, registry: Registry, database: Database, recorder: Recorder) -> None:
        self._registry = registry
        self._database = database
        self._recorder = recorder

    def answer(self, call: HotCall, make: Answer) -> HotResponse:
        """Authenticate, make the answer, record the reading, and only then answer."""
        try:
            app = authenticate.application(self._registry.current(), call.header("Authorization"))
        except authenticate.InvalidClient as error:
            self._record(call, Record(kind=Kind.CALLER_REFUSED, result="refused", reason="invalid_client"))
            challenge = ("WWW-Authenticate", 'Basic realm="tessera"')
            return HotResponse.json(401, {"error": "invalid_client", "error_description": error.public}, challenge)
        call.actor = authenticate.as_actor(app)
        if RIGHT not in app.rights:
            self._record(call, Record(kind=Kind.CALLER_REFUSED, result="refused", reason="no_right"))
            return HotResponse.json(
                403, {"error": "access_denied", "error_description": "This application may not read the audit's proof."}
            )
        try:
            with self._database.read(consistent=True) as connection:
                value = make(connection, call)
        except NotFound as error:
            return HotResponse.json(404, {"error": "not_found", "error_description": error.public})
        self._record(
            call,
            Record(kind=Kind.AUDIT_READ, result="success", resource_type="proof", resource_id=value.get("id")),
        )
        return HotResponse.json(200, value)

    def _record(self, call: HotCall, record: Record) -> None:
        call.records.append(record)
        self._recorder.submit(call, call.records)


def _heads(connection: Connection, call: HotCall) -> dict[str, Any]:
    status = proof_status(connection)
    return {
        "sealed": {"size": status.sealed_size, "to": stamp(status.sealed_to) if status.sealed_to else None},
        "anchored": {"size": status.anchored_size, "to": stamp(status.anchored_to) if status.anchored_to else None},
        "gap_s": round(status.gap_s(call.now), 1),
        "heads": proofs.heads(connection, _number(call.query(), "limit", 20)),
    }


def _inclusion(connection: Connection, call: HotCall) -> dict[str, Any]:
    query = call.query()
    record_id = parse_uuid(query.get("record", ""))
    if record_id is None:
        raise Invalid("record must be the id of a record.", code="invalid_request")
    head, note = proofs.head_of(connection, _number(query, "size", None))
    return {**proofs.inclusion(connection, record_id, head.size).wire, "size": head.size, "note": note}


def _consistency(connection: Connection, call: HotCall) -> dict[str, Any]:
    query = call.query()
    first, second = _number(query, "first", 0), _number(query, "second", 0)
    path = proofs.consistency(connection, first, second)
    return {"first": first, "second": second, "path": [proofs.encode(one) for one in path]}


def _number(query: dict[str, str], name: str, default: Any) -> Any:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid(f"{name} must be a number.", code="invalid_request")
    return int(text)
