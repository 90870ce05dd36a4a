"""The finder: derives the search index from the records, a few hundred milliseconds behind them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, delete, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from identity.audit.models import AuditFind, AuditFindProgress, AuditPersonal, AuditRecord
from identity.audit.tail import read_tail
from identity.core.db import Database

CHUNK = 2_000


def index_new(database: Database, now: datetime) -> int:
    """Index the records that have come since the last run; the number of records."""
    total = 0
    while True:
        with database.write() as connection:
            done, more = _chunk(connection, now)
        total += done
        if not more:
            return total


def _chunk(connection: Connection, now: datetime) -> tuple[int, bool]:
    position = connection.execute(select(AuditFindProgress.position)).scalar_one_or_none()
    if position is None:
        connection.execute(insert(AuditFindProgress).values(slot=1, position=0, complete_to=None))
        position = 0
    tail = read_tail(connection, position, CHUNK, now)
    personal = _personal(connection, [(raw.retention_class, raw.at, raw.id) for raw in tail.rows])
    found = [
        entry
        for raw in tail.rows
        for entry in entries(raw.retention_class, raw.id, raw.at, orjson.loads(raw.body), personal.get(raw.id, ""))
    ]
    if found:
        maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        for start in range(0, len(found), 500):
            connection.execute(maker(AuditFind.__table__).values(found[start : start + 500]).on_conflict_do_nothing())
    connection.execute(update(AuditFindProgress).values(position=tail.position, complete_to=tail.complete_to))
    return len(tail.rows), tail.more


def index_again(connection: Connection, retention_class: str, at: datetime, record_id: UUID) -> None:
    """Derive one record's index rows anew, after its personal values were erased."""
    body = connection.execute(
        select(AuditRecord.body).where(
            AuditRecord.retention_class == retention_class, AuditRecord.at == at, AuditRecord.id == record_id
        )
    ).scalar_one()
    personal = _personal(connection, [(retention_class, at, record_id)]).get(record_id, "")
    connection.execute(delete(AuditFind).where(AuditFind.record_id == record_id))
    connection.execute(
        insert(AuditFind).values(list(entries(retention_class, record_id, at, orjson.loads(body), personal)))
    )


def _personal(connection: Connection, keys: list[tuple[str, datetime, UUID]]) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    key = tuple_(AuditPersonal.retention_class, AuditPersonal.at, AuditPersonal.record_id)
    for start in range(0, len(keys), 500):
        query = select(AuditPersonal.record_id, AuditPersonal.value).where(
            key.in_(keys[start : start + 500]), AuditPersonal.value.is_not(None)
        )
        for record_id, value in connection.execute(query):
            found[record_id] = f"{found.get(record_id, '')} {value}"
    return found


def entries(
    retention_class: str, record_id: UUID, at: datetime, body: dict[str, Any], personal: str
) -> Iterator[dict[str, Any]]:
    """The index rows of one record: one, and one more for each item of a batch."""
    data = body.get("data", {})
    items = data.get("items", []) if isinstance(data, dict) else []
    for number, item in enumerate([{}, *items]):
        source = {**body, **item}
        yield {
            "record_id": record_id,
            "item": number,
            "at": at,
            "class": retention_class,
            "kind": body["kind"],
            "result": source["result"],
            "reason": source.get("reason", ""),
            "actor": body["actor"]["id"],
            "person": _uuid(source.get("person")),
            "user_id": _uuid(source.get("user")),
            "application": source.get("application"),
            "resource_type": source.get("resource_type"),
            "resource_id": source.get("resource_id"),
            "action": source.get("action"),
            "request_id": body["request_id"],
            "words": words(_searched(body, item, personal)),
        }


def words(source: str) -> str:
    """Search tokens: words of letters and digits, and every pair of neighbouring Chinese characters."""
    tokens: dict[str, None] = {}
    run = ""
    for char in unicodedata.normalize("NFKC", source).casefold() + " ":
        wide = "\u3400" <= char <= "\u9fff"
        if char.isalnum() and (not run or wide == ("\u3400" <= run[-1] <= "\u9fff")):
            run += char
            continue
        if run:
            chinese = "\u3400" <= run[-1] <= "\u9fff"
            parts = [run[n : n + 2] for n in range(max(len(run) - 1, 1))] if chinese else [run]
            tokens.update(dict.fromkeys(parts))
        run = char if char.isalnum() else ""
    return f" {' '.join(tokens)} "


def _searched(body: dict[str, Any], item: dict[str, Any], personal: str) -> str:
    data = {name: value for name, value in body.get("data", {}).items() if name != "items"}
    parts = [
        body["actor"]["id"],
        body["actor"]["name"],
        body.get("why", ""),
        body.get("reference", ""),
        personal,
    ]
    parts += [str(value) for value in (*data.values(), *(item or body).values()) if isinstance(value, str)]
    return " ".join(parts)[:8_000]


def _uuid(value: Any) -> UUID | None:
    return UUID(value) if value else None
