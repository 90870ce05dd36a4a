"""The rows of the search index in bulk: COPY on PostgreSQL, plain cursors on SQLite."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from identity.audit.bulk import COPY_HEADER, COPY_TRAILER, EPOCH_2000


class Entry(NamedTuple):
    """A row of `audit_find` with its words: the record's id as its 16 bytes, its time as microseconds since 1970, ids
    of people as text, as the body has them."""

    record_id: bytes
    at: int
    retention_class: str
    kind: str
    actor: str
    request_id: str
    item: int
    result: str
    reason: str
    person: str | None
    user_id: str | None
    application: str | None
    resource_type: str | None
    resource_id: str | None
    action: str | None
    words: Sequence[str]


_COLUMNS = (
    'record_id, at, "class", kind, actor, request_id, item, result, reason, person, user_id, application, '
    "resource_type, resource_id, action"
)
_WORD_COLUMNS = "word, at, record_id, item"
_NULL = b"\xff\xff\xff\xff"
_ID_AT = struct.Struct(">hi16siq").pack
_ITEM = struct.Struct(">iq").pack
_LENGTH = struct.Struct(">i").pack
_WORD_REST = struct.Struct(">iqi16siq").pack


def insert_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Insert the rows, in this transaction."""
    if not entries:
        return
    worded = [one for one in entries if one.words]
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        _copy(driver, "audit_find", _COLUMNS, map(_pg_row, entries))
        if worded:
            _copy(driver, "audit_word", _WORD_COLUMNS, (row for one in worded for row in _pg_words(one)))
        return
    marks = ", ".join("?" * 15)
    driver.executemany(f"INSERT INTO audit_find ({_COLUMNS}) VALUES ({marks})", map(_sqlite_row, entries))  # noqa: S608
    driver.executemany(
        f"INSERT INTO audit_word ({_WORD_COLUMNS}) VALUES (?, ?, ?, ?)",  # noqa: S608
        [(word, one.at, one.record_id.hex(), one.item) for one in worded for word in one.words],
    )


def _copy(driver: Any, table: str, columns: str, rows: Iterable[bytes]) -> None:
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"".join([COPY_HEADER, *rows, COPY_TRAILER]))


def _pg_row(one: Entry) -> bytes:
    return b"".join(
        [
            _ID_AT(15, 16, one.record_id, 8, one.at - EPOCH_2000),
            _common(one.retention_class),
            _common(one.kind),
            _common(one.actor),
            _text(one.request_id),
            _ITEM(8, one.item),
            _common(one.result),
            _common(one.reason),
            _id(one.person),
            _id(one.user_id),
            _common(one.application),
            _common(one.resource_type),
            _text(one.resource_id),
            _common(one.action),
        ]
    )


def _pg_words(one: Entry) -> list[bytes]:
    rest = _WORD_REST(8, one.at - EPOCH_2000, 16, one.record_id, 8, one.item)
    return [b"\0\4" + _text(word) + rest for word in one.words]


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH(len(data)) + data


_common = lru_cache(4_096)(_text)


@lru_cache(4_096)
def _id(value: str | None) -> bytes:
    return _NULL if value is None else b"\0\0\0\x10" + UUID(value).bytes


def _sqlite_row(one: Entry) -> tuple[Any, ...]:
    return (
        one.record_id.hex(),
        one.at,
        *one[2:9],
        one.person and one.person.replace("-", ""),
        one.user_id and one.user_id.replace("-", ""),
        *one[11:15],
    )
