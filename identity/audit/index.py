"""The finder: derives the search index from the records, a few hundred milliseconds behind them.

On PostgreSQL a row may become visible after a row with a later number, so the reader goes by the transaction id and
stops at the oldest transaction that is still open; on SQLite there is one writer, and the rowid is the order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from identity.audit.models import AuditFind, AuditFindProgress, AuditPersonal
from identity.core.db import Database, from_micros

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
    rows, reached = (_new_postgres if connection.dialect.name == "postgresql" else _new_sqlite)(connection, position)
    personal = _personal(connection, [(row[0], row[2], row[1]) for row in rows])
    found = [
        entry
        for retention_class, record_id, at, body in rows
        for entry in entries(retention_class, record_id, at, orjson.loads(body), personal.get(record_id, ""))
    ]
    if found:
        maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        for start in range(0, len(found), 500):
            connection.execute(maker(AuditFind.__table__).values(found[start : start + 500]).on_conflict_do_nothing())
    more = len(rows) >= CHUNK
    complete = rows[-1][2] if more else now
    connection.execute(update(AuditFindProgress).values(position=reached, complete_to=complete))
    return len(rows), more


_Row = tuple[str, UUID, datetime, bytes]


def _new_sqlite(connection: Connection, position: int) -> tuple[list[_Row], int]:
    rows = connection.exec_driver_sql(
        'SELECT rowid, "class", id, at, body FROM audit_record WHERE rowid > ? ORDER BY rowid LIMIT ?',
        (position, CHUNK),
    ).all()
    return [(r[1], UUID(r[2]), from_micros(r[3]), r[4]) for r in rows], (rows[-1][0] if rows else position)


def _new_postgres(connection: Connection, position: int) -> tuple[list[_Row], int]:
    """Whole transactions only, so that the next run starts behind the last one read."""
    horizon = connection.execute(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")).scalar_one()
    rows = connection.execute(
        text(
            'SELECT xid::text::bigint AS x, "class", id, at, body FROM audit_record '
            "WHERE xid::text::bigint >= :low AND xid::text::bigint < :high ORDER BY xid, id LIMIT :n"
        ),
        {"low": position, "high": horizon, "n": CHUNK},
    ).all()
    if len(rows) < CHUNK:
        return [(r[1], r[2], r[3], bytes(r[4])) for r in rows], horizon
    last = rows[-1][0]
    whole = [r for r in rows if r[0] < last] or rows
    return [(r[1], r[2], r[3], bytes(r[4])) for r in whole], (last if whole is not rows else last + 1)


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
