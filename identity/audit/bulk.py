"""Records and leaves in bulk: COPY on PostgreSQL, plain cursors on SQLite; no ORM, no row objects.

Times are microseconds since 1970, record ids their 16 bytes. On PostgreSQL the rows of COPY … (FORMAT BINARY) are taken
apart here: that costs half of what the driver's own row parser does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.pq import ExecStatus
from sqlalchemy import ColumnElement, Connection, UnaryExpression, and_, false, select, tuple_
from sqlalchemy.sql.operators import custom_op

from identity.audit.models import AuditLeaf, AuditNode, AuditPersonal
from identity.core.db import from_micros, to_micros
from identity.core.errors import Unavailable

RecordRow = tuple[int, bytes, bytes, str]
"""(at, id, body, class)"""
RecordBlock = tuple[list[int], list[bytes], list[bytes]]
"""Times, ids and bodies of records of one class."""
LeafRow = tuple[int, int, bytes, bytes, str]
"""(seq, at, id, leaf hash, class)"""


class Leaves(NamedTuple):
    """Leaves by columns."""

    seqs: list[int]
    times: list[int]
    ids: list[bytes]
    hashes: list[bytes]
    classes: list[str]

    def rows(self) -> Iterator[LeafRow]:
        """They one by one."""
        return zip(self.seqs, self.times, self.ids, self.hashes, self.classes, strict=True)


COPY_RECORDS = 'COPY audit_record ("class", at, id, body) FROM STDIN (FORMAT BINARY)'
COPY_HEADER, COPY_TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
EPOCH_2000 = 946_684_800_000_000
"""Microseconds from 1970 to where PostgreSQL's binary times begin."""
_HEADER = 19
_RECORD = struct.Struct(">6xq4x16si")
_AT_AND_ID = struct.Struct(">6xq4x16s4x")
_NUMBERED = struct.Struct(">6xq4xq4x16si")
_LEAF_ROW = struct.Struct(">hiqiqi16si32s")
_NODE_ROW = struct.Struct(">hiqiqi32s")
_LENGTH = struct.Struct(">i")
_LEAVES = (
    "SELECT string_agg(int8send(seq), ''), string_agg(timestamptz_send(at), ''), string_agg(uuid_send(record_id), ''), "
    """string_agg(leaf_hash, ''), string_agg(textsend("class"), '\\x00') """
    "FROM (SELECT * FROM audit_leaf WHERE seq >= {0:d} AND seq < {1:d} ORDER BY seq) AS leaf"
)
_BLOCK = 512
_FIRST, _LAST = to_micros(datetime(1, 1, 1, tzinfo=UTC)), to_micros(datetime(9999, 12, 31, tzinfo=UTC))


def is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def among(
    connection: Connection, columns: tuple[Any, Any, Any], keys: Iterable[tuple[str, datetime, UUID]]
) -> ColumnElement[bool]:
    """That the record of these columns (class, time, id) is one of these."""
    keys = set(keys)
    if not keys:
        return false()
    if is_postgres(connection):
        return tuple_(*columns).in_(keys)
    # There a list of rows has no types, and no index serves it. The index finds class and time; the plus keeps it from
    # trying each of the ids with each of them.
    (retention_class, at, record_id), (classes, times, ids) = columns, zip(*keys, strict=True)
    plus = UnaryExpression(record_id, operator=custom_op("+"), type_=record_id.type)
    return and_(retention_class.in_(set(classes)), at.in_(set(times)), plus.in_(ids))


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


def record_blocks(connection: Connection, name: str, low: int | None, high: int | None) -> Iterator[RecordBlock]:
    """As `records_between`, of one class and by columns: who reads millions looks at many at once."""
    if not is_postgres(connection):
        rows = records_between(connection, (name,), low, high)
        while block := list(islice(rows, _BLOCK)):
            yield [row[0] for row in block], [row[1] for row in block], [row[2] for row in block]
        return
    take, size = _AT_AND_ID.unpack_from, _AT_AND_ID.size
    for copied in _copied(connection, f"SELECT at, id, body FROM audit_record WHERE {_window((name,), low, high)}"):  # noqa: S608
        keys = [take(row) for row in copied]
        yield [at + EPOCH_2000 for at, _ in keys], [key for _, key in keys], [row[size:] for row in copied]


def records_of_transactions(connection: Connection, low: int, high: int) -> Iterator[RecordRow]:
    """PostgreSQL: the records that transactions low <= xid < high wrote, in no order."""
    _by_index(connection)
    yield from _pg_records(connection, f"xid::text::bigint >= {low:d} AND xid::text::bigint < {high:d}")


def numbered_records(connection: Connection, low: int, high: int) -> list[tuple[int, int, bytes, bytes, str]]:
    """PostgreSQL: (xid, at, id, body, class) of the records that transactions low <= xid < high wrote, in no order."""
    where = f"xid::text::bigint >= {low:d} AND xid::text::bigint < {high:d}"
    query = f'SELECT xid::text::bigint, at, id, body, "class" FROM audit_record WHERE {where}'  # noqa: S608
    names, take, size = _Names(), _NUMBERED.unpack_from, _NUMBERED.size
    _by_index(connection)
    return [
        (xid, at + EPOCH_2000, key, row[size : size + length], names[row[size + length + 4 :]])
        for copied in _copied(connection, query)
        for row in copied
        for xid, at, key, length in (take(row),)
    ]


def records_after_row(connection: Connection, position: int, limit: int) -> list[tuple[int, int, bytes, bytes, str]]:
    """SQLite: (rowid, at, id, body, class) of the records behind a rowid, in their order."""
    cursor = _driver(connection).execute(
        'SELECT rowid, at, id, body, "class" FROM audit_record WHERE rowid > ? ORDER BY rowid LIMIT ?',
        (position, limit),
    )
    return [(row[0], row[1], bytes.fromhex(row[2]), row[3], row[4]) for row in cursor]


def leaves(connection: Connection, start: int, end: int) -> Leaves:
    """The leaves start <= seq < end, in their order; on PostgreSQL the server puts each column into one value, which
    costs this side a third of what as many rows do."""
    if not is_postgres(connection):
        cursor = _driver(connection).execute(
            'SELECT seq, at, record_id, leaf_hash, "class" FROM audit_leaf WHERE seq >= ? AND seq < ? ORDER BY seq',
            (start, end),
        )
        rows = [(seq, at, bytes.fromhex(key), bytes(digest), name) for seq, at, key, digest, name in cursor]
        return Leaves(*(list(column) for column in zip(*rows, strict=True))) if rows else Leaves([], [], [], [], [])
    query = _LEAVES.format(start, end)
    [[row]] = _copied(connection, query)
    seqs, times, ids, digests, names = _fields(row)
    count = len(seqs) // 8
    known = _Names()
    return Leaves(
        list(struct.unpack(f">{count}q", seqs)),
        [at + EPOCH_2000 for at in struct.unpack(f">{count}q", times)],
        _cut(ids, 16),
        # A hash of another length is no hash of ours, but its neighbours are.
        _cut(digests, 32) if len(digests) == 32 * count else hashes(connection, 0, start, end),
        [known[name] for name in names.split(b"\0")] if count else [],
    )


def _fields(row: bytes) -> list[bytes]:
    """The columns of a row of COPY; empty for null."""
    found, place = [], 2
    while place < len(row):
        [length] = _LENGTH.unpack_from(row, place)
        place += 4
        found.append(row[place : place + max(length, 0)])
        place += max(length, 0)
    return found


def _cut(values: bytes, size: int) -> list[bytes]:
    return [values[n : n + size] for n in range(0, len(values), size)]


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
        _by_index(connection)
        rows = connection.exec_driver_sql(f"SELECT id FROM audit_record WHERE xid::text::bigint >= {position:d}")  # noqa: S608
        return {row[0].bytes for row in rows}
    return {
        bytes.fromhex(row[0])
        for row in connection.exec_driver_sql("SELECT id FROM audit_record WHERE rowid > ?", (position,))
    }


def insert_leaves(connection: Connection, rows: Sequence[LeafRow]) -> None:
    """Append the leaves."""
    if is_postgres(connection):
        names = {name: _LENGTH.pack(len(name.encode())) + name.encode() for name in {row[4] for row in rows}}
        pack = _LEAF_ROW.pack
        copied = [
            pack(5, 8, seq, 8, at - EPOCH_2000, 16, record_id, 32, digest) + names[name]
            for seq, at, record_id, digest, name in rows
        ]
        _copy_in(connection, 'audit_leaf (seq, at, record_id, leaf_hash, "class")', copied)
        return
    _driver(connection).executemany(
        'INSERT INTO audit_leaf (seq, at, record_id, leaf_hash, "class") VALUES (?, ?, ?, ?, ?)',
        ((seq, at, record_id.hex(), digest, name) for seq, at, record_id, digest, name in rows),
    )


def insert_nodes(connection: Connection, nodes: Sequence[tuple[int, int, bytes]]) -> None:
    """Append (level, index, hash) nodes."""
    if is_postgres(connection):
        copied = [_NODE_ROW.pack(3, 8, level, 8, index, 32, digest) for level, index, digest in nodes]
        _copy_in(connection, 'audit_node (level, "index", hash)', copied)
        return
    _driver(connection).executemany('INSERT INTO audit_node (level, "index", hash) VALUES (?, ?, ?)', nodes)


def _by_index(connection: Connection) -> None:
    """Have this transaction find what transactions wrote by the index. Until a month's partition was analyzed the
    planner takes a BRIN index for useless, and would read the whole month each time, by several processes."""
    connection.exec_driver_sql(
        "SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true), "
        "set_config('max_parallel_workers_per_gather', '0', true)"
    )


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _sqlite_records(connection: Connection, where: str, values: Sequence[Any]) -> Iterator[RecordRow]:
    cursor = _driver(connection).execute(f'SELECT at, id, body, "class" FROM audit_record WHERE {where}', values)  # noqa: S608
    for at, record_id, body, name in cursor:
        yield at, bytes.fromhex(record_id), body, name


def _pg_records(connection: Connection, where: str) -> Iterator[RecordRow]:
    names, take, size = _Names(), _RECORD.unpack_from, _RECORD.size
    for copied in _copied(connection, f'SELECT at, id, body, "class" FROM audit_record WHERE {where}'):  # noqa: S608
        for row in copied:
            at, key, length = take(row)
            yield at + EPOCH_2000, key, row[size : size + length], names[row[size + length + 4 :]]


class _Names(dict[bytes, str]):
    """The few names of classes as text."""

    def __missing__(self, name: bytes) -> str:
        self[name] = made = name.decode()
        return made


def _window(classes: Sequence[str], low: int | None, high: int | None) -> str:
    names = ", ".join("'" + one.replace("'", "''") + "'" for one in classes)
    where = f'"class" IN ({names})'
    where += f" AND at >= {_pg_time(low)}" if low is not None else ""
    return where + (f" AND at < {_pg_time(high)}" if high is not None else "")


def _pg_time(micros: int) -> str:
    """A constant, so that partitions are left out when the query is planned; what no calendar knows is its end."""
    return f"timestamptz '{from_micros(min(max(micros, _FIRST), _LAST)).isoformat()}'"


def _copied(connection: Connection, query: str) -> Iterator[list[bytes]]:
    """The rows of a query as COPY writes them, many at once: each a count of columns, then each column behind its
    length.

    They are taken from libpq itself, which blocks this thread: a third of what the driver's own reading costs.
    """
    wire = _driver(connection).pgconn
    take = wire.get_copy_data
    with _driver(connection).cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)"):
        _, first = take(0)
        rows = [bytes(first)[_HEADER:]]
        while True:
            length, data = take(0)
            if length < 0:
                break
            rows.append(bytes(data))
            if len(rows) > _BLOCK:
                yield rows[:_BLOCK]
                del rows[:_BLOCK]
        while (result := wire.get_result()) is not None:
            if result.status != ExecStatus.COMMAND_OK:
                raise Unavailable("The database broke off.", str(result.error_message), code="database_unavailable")
    del rows[-1]  # the trailer
    if rows:
        yield rows


def _copy_in(connection: Connection, target: str, rows: Sequence[bytes]) -> None:
    with _driver(connection).cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"".join([COPY_HEADER, *rows, COPY_TRAILER]))
