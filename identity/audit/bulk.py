"""Records and leaves in bulk: COPY on PostgreSQL, plain cursors on SQLite; no ORM, no row objects.

Times are microseconds since 1970, record ids their 16 bytes. On PostgreSQL the rows of COPY … (FORMAT BINARY) are taken
apart here: that costs half of what the driver's own row parser does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from psycopg.pq import ExecStatus
from sqlalchemy import Connection, select

from identity.audit.encode import lead
from identity.audit.models import AuditLeaf, AuditNode, AuditPersonal
from identity.audit.note import stamp
from identity.core.db import from_micros
from identity.core.errors import Unavailable

RecordRow = tuple[int, bytes, bytes, str]
"""(at, id, body, class)"""
LedRow = tuple[int, bytes, bytes, str, bytes]
"""(at, id, body, class, lead): the lead is how a body with this id and time begins (`identity.audit.encode`)."""
LeafRow = tuple[int, int, bytes, bytes, str]
"""(seq, at, id, leaf hash, class)"""

COPY_RECORDS = 'COPY audit_record ("class", at, id, body) FROM STDIN (FORMAT BINARY)'
COPY_HEADER, COPY_TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
EPOCH_2000 = 946_684_800_000_000
"""Microseconds from 1970 to where PostgreSQL's binary times begin."""
_HEADER = 19
_RECORD = struct.Struct(">hiqi16si")
_LED = struct.Struct(">hiqi16si88si")
_LEAD_SQL = (
    """rpad('{"id":"' || id || '","at":"' """
    """|| coalesce(pg_catalog.to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '')"""
    """|| '","kind":"', 88)"""
)
_NUMBERED = struct.Struct(">hiqiqi16si")
_LENGTH = struct.Struct(">i")


def is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def unhurried(connection: Connection) -> None:
    """Let this transaction's statements take as long as they need; the sealer and the verifier are not in a hurry."""
    if is_postgres(connection):
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def records_between(
    connection: Connection, classes: Sequence[str], low: int | None, high: int | None
) -> Iterator[RecordRow]:
    """Records of these classes with low <= at < high, in no order; None = no bound."""
    if not is_postgres(connection):
        marks = ", ".join("?" * len(classes))
        bounds = (low if low is not None else -(1 << 63), (high if high is not None else 1 << 63) - 1)
        yield from _sqlite_records(connection, f'"class" IN ({marks}) AND at >= ? AND at <= ?', (*classes, *bounds))
        return
    yield from _pg_records(connection, _window(classes, low, high))


def led_records_between(
    connection: Connection, classes: Sequence[str], low: int | None, high: int | None
) -> Iterator[LedRow]:
    """As `records_between`, each with its lead; on PostgreSQL the server makes it, which costs this side nothing."""
    if not is_postgres(connection):
        for at, record_id, body, called in records_between(connection, classes, low, high):
            yield at, record_id, body, called, lead(UUID(bytes=record_id), _stamp(at))
        return
    size = _LED.size
    names: dict[bytes, str] = {}
    take = _LED.unpack_from
    query = f'SELECT at, id, {_LEAD_SQL}, body, "class" FROM audit_record WHERE {_window(classes, low, high)}'  # noqa: S608
    for row in _copy_out(connection, query):
        _, _, at, _, record_id, _, begins, length = take(row)
        end = size + length
        name = row[end + 4 :]
        yield (
            at + EPOCH_2000,
            record_id,
            row[size:end],
            names.get(name) or names.setdefault(name, name.decode()),
            begins,
        )


def _stamp(at: int) -> str:
    try:
        return stamp(from_micros(at))
    except (OverflowError, ValueError, OSError):
        return ""  # no body has a time that no calendar knows


def records_of_transactions(connection: Connection, low: int, high: int) -> Iterator[RecordRow]:
    """PostgreSQL: the records that transactions low <= xid < high wrote, in no order."""
    yield from _pg_records(connection, f"xid::text::bigint >= {low:d} AND xid::text::bigint < {high:d}")


def records_from(connection: Connection, low: int, high: int, limit: int) -> list[tuple[int, int, bytes, bytes, str]]:
    """PostgreSQL: (xid, at, id, body, class) of the first `limit` records of transactions low <= xid < high, sorted."""
    where = f"xid::text::bigint >= {low:d} AND xid::text::bigint < {high:d}"
    columns = 'xid::text::bigint AS x, at, id, body, "class"'
    query = f"SELECT {columns} FROM audit_record WHERE {where} ORDER BY x, id LIMIT {limit:d}"  # noqa: S608
    found = []
    for row in _copy_out(connection, query):
        _, _, xid, _, at, _, record_id, length = _NUMBERED.unpack_from(row)
        end = _NUMBERED.size + length
        found.append((xid, at + EPOCH_2000, record_id, row[_NUMBERED.size : end], row[end + 4 :].decode()))
    return found


def records_after_row(connection: Connection, position: int, limit: int) -> list[tuple[int, int, bytes, bytes, str]]:
    """SQLite: (rowid, at, id, body, class) of the records behind a rowid, in their order."""
    cursor = _driver(connection).execute(
        'SELECT rowid, at, id, body, "class" FROM audit_record WHERE rowid > ? ORDER BY rowid LIMIT ?',
        (position, limit),
    )
    return [(row[0], row[1], bytes.fromhex(row[2]), row[3], row[4]) for row in cursor]


def leaves(connection: Connection, start: int, end: int) -> Iterator[LeafRow]:
    """The leaves start <= seq < end, in their order."""
    if not is_postgres(connection):
        cursor = _driver(connection).execute(
            'SELECT seq, at, record_id, leaf_hash, "class" FROM audit_leaf WHERE seq >= ? AND seq < ? ORDER BY seq',
            (start, end),
        )
        for seq, at, record_id, digest, name in cursor:
            yield seq, at, bytes.fromhex(record_id), bytes(digest), name
        return
    where = f"WHERE seq >= {start:d} AND seq < {end:d} ORDER BY seq"
    size = _NUMBERED.size
    names: dict[bytes, str] = {}
    for row in _copy_out(connection, f'SELECT seq, at, record_id, leaf_hash, "class" FROM audit_leaf {where}'):  # noqa: S608
        _, _, seq, _, at, _, record_id, length = _NUMBERED.unpack_from(row)
        name = row[size + length + 4 :]
        yield (
            seq,
            at + EPOCH_2000,
            record_id,
            row[size : size + length],
            names.get(name) or names.setdefault(name, name.decode()),
        )


def leaves_of(connection: Connection, name: str, low: int, high: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(seq, record id, leaf hash) of the leaves of a class with low <= at < high, in their order."""
    query = (
        select(AuditLeaf.seq, AuditLeaf.record_id, AuditLeaf.leaf_hash)
        .where(AuditLeaf.retention_class == name, AuditLeaf.at >= from_micros(low), AuditLeaf.at < from_micros(high))
        .order_by(AuditLeaf.seq)
    )
    for seq, record_id, digest in connection.execution_options(yield_per=10_000).execute(query):
        yield seq, record_id.bytes, bytes(digest)


def hashes(connection: Connection, level: int, start: int, end: int) -> list[bytes]:
    """Leaf hashes (level 0) or stored nodes (level 8, 16, …) start <= index < end, in their order."""
    if level == 0:
        query = select(AuditLeaf.leaf_hash).where(AuditLeaf.seq >= start, AuditLeaf.seq < end).order_by(AuditLeaf.seq)
    else:
        index = AuditNode.index
        query = select(AuditNode.hash).where(AuditNode.level == level, index >= start, index < end).order_by(index)
    return [bytes(one) for one in connection.execute(query).scalars()]


def personal_between(
    connection: Connection, low: int | None, high: int | None
) -> Iterator[tuple[bytes, str, bytes, str | None]]:
    """(record id, field, salt, value) of the personal values of records with low <= at < high."""
    query = select(AuditPersonal.record_id, AuditPersonal.field, AuditPersonal.salt, AuditPersonal.value)
    if low is not None:
        query = query.where(AuditPersonal.at >= from_micros(low))
    if high is not None:
        query = query.where(AuditPersonal.at < from_micros(high))
    for record_id, name, salt, value in connection.execute(query):
        yield record_id.bytes, name, salt, value


def ids_behind(connection: Connection, position: int) -> set[bytes]:
    """The records that the sealer has not reached: those stored at this position or behind it."""
    if is_postgres(connection):
        rows = connection.exec_driver_sql(f"SELECT id FROM audit_record WHERE xid::text::bigint >= {position:d}")  # noqa: S608
        return {row[0].bytes for row in rows}
    return {
        bytes.fromhex(row[0])
        for row in connection.exec_driver_sql("SELECT id FROM audit_record WHERE rowid > ?", (position,))
    }


def insert_leaves(connection: Connection, rows: Sequence[LeafRow]) -> None:
    """Append the leaves."""
    if is_postgres(connection):
        _copy_in(
            connection,
            'COPY audit_leaf (seq, at, record_id, leaf_hash, "class") FROM STDIN (FORMAT BINARY)',
            ("int8", "int8", "bytea", "bytea", "text"),
            ((seq, at - EPOCH_2000, record_id, digest, name) for seq, at, record_id, digest, name in rows),
        )
        return
    _driver(connection).executemany(
        'INSERT INTO audit_leaf (seq, at, record_id, leaf_hash, "class") VALUES (?, ?, ?, ?, ?)',
        ((seq, at, record_id.hex(), digest, name) for seq, at, record_id, digest, name in rows),
    )


def insert_nodes(connection: Connection, nodes: Sequence[tuple[int, int, bytes]]) -> None:
    """Append (level, index, hash) nodes."""
    if is_postgres(connection):
        target = 'COPY audit_node (level, "index", hash) FROM STDIN (FORMAT BINARY)'
        _copy_in(connection, target, ("int8", "int8", "bytea"), nodes)
        return
    _driver(connection).executemany('INSERT INTO audit_node (level, "index", hash) VALUES (?, ?, ?)', nodes)


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _sqlite_records(connection: Connection, where: str, values: Sequence[Any]) -> Iterator[RecordRow]:
    cursor = _driver(connection).execute(f'SELECT at, id, body, "class" FROM audit_record WHERE {where}', values)  # noqa: S608
    for at, record_id, body, name in cursor:
        yield at, bytes.fromhex(record_id), body, name


def _pg_records(connection: Connection, where: str) -> Iterator[RecordRow]:
    size = _RECORD.size
    names: dict[bytes, str] = {}
    for row in _copy_out(connection, f'SELECT at, id, body, "class" FROM audit_record WHERE {where}'):  # noqa: S608
        _, _, at, _, record_id, length = _RECORD.unpack_from(row)
        name = row[size + length + 4 :]
        yield (
            at + EPOCH_2000,
            record_id,
            row[size : size + length],
            names.get(name) or names.setdefault(name, name.decode()),
        )


def _window(classes: Sequence[str], low: int | None, high: int | None) -> str:
    names = ", ".join("'" + one.replace("'", "''") + "'" for one in classes)
    where = f'"class" IN ({names})'
    where += f" AND at >= {_pg_time(low)}" if low is not None else ""
    return where + (f" AND at < {_pg_time(high)}" if high is not None else "")


def _pg_time(micros: int) -> str:
    return f"(timestamptz 'epoch' + interval '{micros // 1_000_000:d} seconds {micros % 1_000_000:d} microseconds')"


def _copy_out(connection: Connection, query: str) -> Iterator[bytes]:
    """The rows of a query as COPY writes them: a count of columns, then each column behind its length.

    They are taken from libpq itself, which blocks this thread: a third of what the driver's own reading costs.
    """
    wire = _driver(connection).pgconn
    with _driver(connection).cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)"):
        _, first = wire.get_copy_data(0)
        row = bytes(first)[_HEADER:]
        while True:
            if len(row) > 2:  # the trailer is two bytes
                yield row
            length, data = wire.get_copy_data(0)
            if length < 0:
                break
            row = bytes(data)
        while (result := wire.get_result()) is not None:
            if result.status != ExecStatus.COMMAND_OK:
                raise Unavailable("The database broke off.", str(result.error_message), code="database_unavailable")


def _copy_in(connection: Connection, target: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with _driver(connection).cursor() as cursor, cursor.copy(target) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
