"""The recorder's own connection for plain batches: one exchange is one transaction, and the interpreter is let go of
once a batch, not once a row.

What rides along with other rows goes through `store` in a transaction of the pool instead.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import psycopg
from psycopg.pq import ExecStatus

from identity.audit.bulk import EPOCH_2000
from identity.audit.encode import Stored
from identity.core.db import Database, is_outage, reachable, to_micros
from identity.core.errors import Unavailable

_INSERT = (
    'INSERT INTO audit_record ("class", at, id, body) '
    "SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::bytea[])"
)
_NAME = b"audit_record"
# The types of PostgreSQL's catalogue (pg_type): text, timestamptz, uuid, bytea, and arrays of them.
_ELEMENTS, _ARRAYS = (25, 1184, 2950, 17), (1009, 1185, 2951, 1001)
# As arrays are sent: dimensions, whether there are nulls, type of the elements, their count, the first index.
_ARRAY = struct.Struct(">iiiii")
_LENGTH, _TIME, _ID = struct.Struct(">i"), struct.Struct(">iq"), struct.Struct(">i16s")
_PARAMETERS = 4
_ROWS_MAX = 256


class Direct(Protocol):
    """Writes packed records, all or none."""

    def pack(self, stored: Sequence[Stored]) -> Sequence[Any]:
        """The records as `write` takes them; may run on any thread."""
        ...

    def write(self, packed: Sequence[Any]) -> None:
        """Return when these are durable; raises `Unavailable` when the database does not take them now."""
        ...

    def watch(self) -> None:
        """Called every second or so on another thread: ends a `write` whose database does not answer."""
        ...

    def close(self) -> None: ...


def direct(database: Database, answer_s: float) -> Direct:
    """The way of this database. What does not answer for so many seconds is given up (SQLite waits for its lock)."""
    return _SqliteInsert(database) if database.is_sqlite else _PostgresInsert(database, answer_s)


class _PostgresInsert:
    """One prepared INSERT of arrays by libpq itself, on a connection in autocommit: the interpreter is let go of once
    and taken back once. Of a COPY, each of its ten calls stands in line for it again.

    The call blocks; `watch` cuts the connection of a database that does not answer.
    """

    def __init__(self, database: Database, answer_s: float) -> None:
        self._database = database
        self._answer_s = answer_s
        self._connection: psycopg.Connection[Any] | None = None
        self._since: float | None = None

    def pack(self, stored: Sequence[Stored]) -> list[bytes]:
        packed = []
        for name, at, record_id, body, _ in stored:
            packed += [
                _element(name),
                _TIME.pack(8, to_micros(at) - EPOCH_2000),
                _ID.pack(16, record_id.bytes),
                _LENGTH.pack(len(body)) + body,
            ]
        return packed

    def write(self, packed: Sequence[bytes]) -> None:
        try:
            connection = self._connection or self._open()
            count = len(packed) // _PARAMETERS
            arrays = [
                b"".join([_ARRAY.pack(1, 0, kind, count, 1), *packed[n::_PARAMETERS]])
                for n, kind in enumerate(_ELEMENTS)
            ]
            self._since = time.monotonic()
            result = connection.pgconn.exec_prepared(_NAME, arrays, [1] * _PARAMETERS)
            self._since = None
            if result.status != ExecStatus.COMMAND_OK:
                raise _error(result)
        except BaseException as error:
            self.close()  # whatever happened, nobody knows where the exchange stopped
            if isinstance(error, psycopg.Error) and is_outage(error):
                raise Unavailable(
                    "The service cannot reach its database.", str(error), code="database_unavailable"
                ) from error
            raise

    def close(self) -> None:
        self._since = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def watch(self) -> None:
        since, connection = self._since, self._connection
        if since is not None and connection is not None and time.monotonic() - since > self._answer_s:
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def _open(self) -> psycopg.Connection[Any]:
        with reachable():
            pooled = self._database.engine.raw_connection()
        pooled.detach()
        connection: Any = pooled.dbapi_connection
        self._connection, self._since = connection, time.monotonic()
        connection.autocommit = True
        # Records of large batches are compressed, by lz4 at a third of the default's cost. Not every server has it.
        with suppress(psycopg.errors.InvalidParameterValue):
            connection.execute("SET default_toast_compression = 'lz4'")
        wire = connection.pgconn
        wire.nonblocking = 0
        result = wire.prepare(_NAME, _INSERT.encode(), _ARRAYS)
        if result.status != ExecStatus.COMMAND_OK:
            raise _error(result)
        return connection  # type: ignore[no-any-return]


@cache
def _element(name: str) -> bytes:
    """The class as an element of an array."""
    text = name.encode()
    return _LENGTH.pack(len(text)) + text


def _error(result: Any) -> psycopg.Error:
    state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
    message = result.error_message.decode("utf-8", "replace")
    try:
        return psycopg.errors.lookup(state)(message)
    except KeyError:
        return psycopg.OperationalError(message)


class _SqliteInsert:
    """One INSERT with all rows, in autocommit: it takes the lock, writes and commits in one step."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    def pack(self, stored: Sequence[Stored]) -> list[Any]:
        packed: list[Any] = []
        for name, at, record_id, body, _ in stored:
            packed += [name, to_micros(at), record_id.hex, body]
        return packed

    def write(self, packed: Sequence[Any]) -> None:
        try:
            if self._connection is None or self._lock is None:
                self._connection, self._lock = self._open(), self._database.open_write_lock()
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                self._insert(self._connection, packed)
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            self.close()
            if isinstance(error, OSError) or is_outage(error):
                raise Unavailable(
                    "The service cannot reach its database.", str(error), code="database_unavailable"
                ) from error
            raise

    def watch(self) -> None:
        """It waits for its lock, which ends with whoever holds it."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _insert(self, connection: sqlite3.Connection, packed: Sequence[Any]) -> None:
        width = _ROWS_MAX * _PARAMETERS
        if len(packed) <= width:
            connection.execute(_insert_sql(len(packed) // _PARAMETERS), packed)
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(packed), width):
                part = packed[start : start + width]
                connection.execute(_insert_sql(len(part) // _PARAMETERS), part)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        with reachable():
            pooled = self._database.engine.raw_connection()
        pooled.detach()
        return pooled.dbapi_connection  # type: ignore[return-value]


@cache
def _insert_sql(rows: int) -> str:
    marks = ", ".join(["(?, ?, ?, ?)"] * rows)
    return f'INSERT INTO audit_record ("class", at, id, body) VALUES {marks}'  # noqa: S608  marks only
