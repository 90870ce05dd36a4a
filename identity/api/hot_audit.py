"""Heads, inclusion and consistency proofs over HTTP, for applications that hold the right `audit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from identity.api.door import Door
from identity.audit import proofs
from identity.audit.kinds import Kind
from identity.audit.note import stamp
from identity.audit.status import proof_status
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, HotRoute, parse_uuid
from identity.core.record import Record

GUARD = "application credentials (HTTP Basic) with the right audit"
RIGHT = "audit"

Answer = Callable[[Connection, HotCall], dict[str, Any]]


def routes(door: Door, database: Database) -> list[HotRoute]:
    """`/api/v1/audit/heads | inclusion | consistency`."""
    proofs_of = _Proofs(door, database)
    return [
        HotRoute("/api/v1/audit/heads", ("GET",), lambda call: proofs_of.answer(call, _heads), GUARD),
        HotRoute("/api/v1/audit/inclusion", ("GET",), lambda call: proofs_of.answer(call, _inclusion), GUARD),
        HotRoute("/api/v1/audit/consistency", ("GET",), lambda call: proofs_of.answer(call, _consistency), GUARD),
    ]


class _Proofs:
    def __init__(self, door: Door, database: Database) -> None:
        self._door = door
        self._database = database

    def answer(self, call: HotCall, make: Answer) -> HotResponse:
        """Make the answer, record the reading, and only then answer."""
        refusal = "This application may not read the audit's proof."
        return self._door.guarded(call, frozenset({RIGHT}), refusal, lambda call, _: self._answer(call, make))

    def _answer(self, call: HotCall, make: Answer) -> HotResponse:
        with self._database.read(consistent=True) as connection:
            value = make(connection, call)
        read = Record(kind=Kind.AUDIT_READ, result="success", resource_type="proof", resource_id=value.get("id"))
        self._door.record(call, read)
        return HotResponse.json(200, value)


def _heads(connection: Connection, call: HotCall) -> dict[str, Any]:
    status = proof_status(connection)
    return {
        "sealed": {"size": status.sealed_size, "to": stamp(status.sealed_to) if status.sealed_to else None},
        "anchored": {"size": status.anchored_size, "to": stamp(status.anchored_to) if status.anchored_to else None},
        "gap_s": round(status.gap_s(call.now), 1),
        "heads": proofs.heads(connection, _number(call.query(), "limit", 20)),
        "restored": proofs.restorations(connection),
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
