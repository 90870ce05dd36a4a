"""The finder: derives the search index from the records, a few hundred milliseconds behind them.

What has a column of its own is found by it. Words are kept of all other text (names, reasons, references, personal
values); a decision has none but those, and most decisions none at all.
"""

from __future__ import annotations

import unicodedata
from collections import ChainMap
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from identity.audit.bulk import RecordRow, among
from identity.audit.find_rows import Entry, insert_entries
from identity.audit.models import AuditFind, AuditFindProgress, AuditPersonal, AuditRecord, AuditWord
from identity.audit.tail import TailReader
from identity.core.db import Database, from_micros, to_micros
from identity.core.ending import ending
from identity.core.errors import Stale

CHUNK = 5_000
SQLITE_CHUNK = 250
"""Fewer at once on SQLite: while they are written, nobody else can write."""
WORD_MAX = 64
RESOURCE_MAX = 600
# Text that says nothing, or stands in a column of the index.
_UNSEARCHED = frozenset(
    {
        *("id", "at", "kind", "result", "reason", "application", "request_id", "user", "person", "session", "action"),
        *("intent", "resource_type"),
    }
)


def index_new(database: Database, now: datetime) -> int:
    """Index the records that have come since the last run; the number of records."""
    reader = TailReader(SQLITE_CHUNK if database.is_sqlite else CHUNK)
    ended, total = ending(), 0
    while True:
        done, more = _chunk(database, reader, now)
        total += done
        if not more or ended():
            return total


def _chunk(database: Database, reader: TailReader, now: datetime) -> tuple[int, bool]:
    """Read and derive outside the transaction that writes: it is short, and on SQLite the only one there can be."""
    with database.read() as connection:
        position = connection.execute(select(AuditFindProgress.position)).scalar_one_or_none()
        tail = reader.plain(connection, position or 0, now)
    found: list[Entry] = []
    private: list[tuple[RecordRow, dict[str, Any]]] = []
    for row in tail.rows:
        body = orjson.loads(row[2])
        if "personal" in body:
            private.append((row, body))
        else:
            found += entries(row, body, "")
    with database.write() as connection:
        if not database.is_sqlite:
            # Derived, and with its position: what a crash loses is derived again.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        if position is None:
            maker: Any = sqlite.insert if database.is_sqlite else postgresql.insert
            connection.execute(
                maker(AuditFindProgress).values(slot=1, position=0, complete_to=None).on_conflict_do_nothing()
            )
        done = connection.execute(
            update(AuditFindProgress)
            .where(AuditFindProgress.position == (position or 0))
            .values(position=tail.position, complete_to=tail.complete_to)
        )
        if done.rowcount != 1:
            raise Stale("Another process is indexing.", code="lease_lost")
        # Personal values as they are now: what was erased since is in no index.
        keys = [(name, from_micros(at), UUID(bytes=record_id)) for (at, record_id, _, name), _ in private]
        values = _personal(connection, keys)
        for (row, body), key in zip(private, keys, strict=True):
            found += entries(row, body, values.get(key[2], ""))
        insert_entries(connection, found)
    return len(tail.rows), tail.more


def forget(connection: Connection, retention_class: str, at: datetime, record_id: UUID) -> None:
    """Take one record out of the index, while its personal values are still known: a word is found by itself only."""
    found = {word for one in _entries_of(connection, retention_class, at, record_id) for word in one.words}
    mine = (AuditWord.at == at, AuditWord.record_id == record_id)
    connection.execute(delete(AuditWord).where(AuditWord.word.in_(found), *mine))
    connection.execute(delete(AuditFind).where(AuditFind.record_id == record_id))


def index_one(connection: Connection, retention_class: str, at: datetime, record_id: UUID) -> None:
    """Derive one record's index rows anew, after `forget`."""
    insert_entries(connection, _entries_of(connection, retention_class, at, record_id))


def _entries_of(connection: Connection, retention_class: str, at: datetime, record_id: UUID) -> list[Entry]:
    body = connection.execute(
        select(AuditRecord.body).where(
            AuditRecord.retention_class == retention_class, AuditRecord.at == at, AuditRecord.id == record_id
        )
    ).scalar_one()
    personal = _personal(connection, [(retention_class, at, record_id)]).get(record_id, "")
    row = (to_micros(at), record_id.bytes, body, retention_class)
    return list(entries(row, orjson.loads(body), personal))


def _personal(connection: Connection, keys: list[tuple[str, datetime, UUID]]) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    columns = (AuditPersonal.retention_class, AuditPersonal.at, AuditPersonal.record_id)
    for start in range(0, len(keys), 500):
        query = select(AuditPersonal.record_id, AuditPersonal.value).where(
            among(connection, columns, keys[start : start + 500]), AuditPersonal.value.is_not(None)
        )
        for record_id, value in connection.execute(query):
            found[record_id] = f"{found.get(record_id, '')} {value}"
    return found


def entries(row: RecordRow, body: dict[str, Any], personal: str) -> Iterator[Entry]:
    """The index rows of one record: one, and one more for each item of a batch, which has no words of its own."""
    data = body.get("data")
    at, record_id, _, retention_class = row
    common = (record_id, at, retention_class, body["kind"], body["actor"]["id"], body["request_id"])
    yield _entry(common, 0, body.get, words(searched(retention_class, body, personal)))
    items = data.get("items", ()) if isinstance(data, dict) else ()
    for number, item in enumerate(items, 1):
        # What an item does not say itself is the batch's.
        yield _entry(common, number, ChainMap(item, body).get, ())


def _entry(
    common: tuple[bytes, int, str, str, str, str], number: int, get: Callable[..., Any], found: tuple[str, ...]
) -> Entry:
    resource_id = get("resource_id")
    return Entry(
        *common,
        number,
        get("result"),
        get("reason", ""),
        get("person"),
        get("user"),
        get("application"),
        get("resource_type"),
        resource_id and clip(resource_id),
        get("action"),
        found,
    )


def clip(resource_id: str) -> str:
    """An object's id as it is indexed: of a longer one its beginning, because a database's index takes 2,700 bytes."""
    return resource_id[:RESOURCE_MAX]


def words(source: str) -> tuple[str, ...]:
    """Search words: runs of letters and digits, and every pair of neighbouring Chinese characters."""
    if not source:
        return ()
    found: dict[str, None] = {}
    run = ""
    for char in unicodedata.normalize("NFKC", source).casefold() + " ":
        wide = "\u3400" <= char <= "\u9fff"
        if char.isalnum() and (not run or wide == ("\u3400" <= run[-1] <= "\u9fff")):
            run += char
            continue
        if run:
            chinese = "\u3400" <= run[-1] <= "\u9fff"
            parts = [run[n : n + 2] for n in range(max(len(run) - 1, 1))] if chinese else [run[:WORD_MAX]]
            found.update(dict.fromkeys(parts))
        run = char if char.isalnum() else ""
    return tuple(found)


def searched(retention_class: str, body: dict[str, Any], personal: str) -> str:
    """The text of a record that no column holds; `personal` are its personal values."""
    data = body.get("data")
    parts = [body["why"]] if "why" in body else []
    if "reference" in body:
        parts.append(body["reference"])
    if personal:
        parts.append(personal)
    if data:
        parts += [value for name, value in data.items() if isinstance(value, str)]
    if retention_class != "decision":
        actor = body["actor"]
        parts += [actor["id"], actor["name"]]
        parts += [value for name, value in body.items() if isinstance(value, str) and name not in _UNSEARCHED]
    return " ".join(parts)[:8_000]
