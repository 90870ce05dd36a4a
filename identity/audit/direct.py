"""The recorder's own connection for plain batches: one exchange is one transaction, and the interpreter is let go of
once a batch, not once a row.

What rides along with other rows goes through `store` in a transaction of the pool instead.
"""

from __future__ import annotations

import fcntl
import os
import select
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import psycopg
from psycopg.pq import ExecStatus

from identity.audit.bulk import COPY_HEADER, COPY_RECORDS, COPY_TRAILER, EPOCH_2000
from identity.audit.encode import Stored
from identity.core.db import Database, is_outage, reachable, to_micros
from identity.core.errors import Unavailable

ANSWER_MS = 15_000
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

    def close(self) -> None: ...


def direct(database: Database) -> Direct:
    """The way of this database."""
    return _SqliteInsert(database) if database.is_sqlite else _PostgresCopy(database)


class _PostgresCopy:
    """COPY by libpq itself, on a connection in autocommit: a third of what the driver's own COPY costs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None

    def pack(self, stored: Sequence[Stored]) -> list[bytes]:
        packed = []
        for name, at, record_id, body, _ in stored:
            micros = to_micros(at) - EPOCH_2000
            packed += [_row(name)(micros, 16, record_id.bytes, len(body)), body]
        return packed

    def write(self, packed: Sequence[bytes]) -> None:
        try:
            if self._connection is None:
                self._connection = self._open()
            _copy(self._connection.pgconn, b"".join([COPY_HEADER, *packed, COPY_TRAILER]))
        except BaseException as error:
            self.close()  # whatever happened, nobody knows where the exchange stopped
            if isinstance(error, psycopg.Error) and is_outage(error):
                raise Unavailable(
                    "The service cannot reach its database.", str(error), code="database_unavailable"
                ) from error
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection[Any]:
        with reachable():
            pooled = self._database.engine.raw_connection()
        pooled.detach()
        connection: Any = pooled.dbapi_connection
        connection.autocommit = True
        # Records of large batches are compressed, by lz4 at a third of the default's cost. Not every server has it.
        with suppress(psycopg.errors.InvalidParameterValue):
            connection.execute("SET default_toast_compression = 'lz4'")
        return connection  # type: ignore[no-any-return]


@cache
def _row(name: str) -> Callable[[int, int, bytes, int], bytes]:
    """A packer of the columns of a record of this class in front of its body: each behind its length."""
    text = name.encode()
    begin = struct.pack(">hi", 4, len(text)) + text + struct.pack(">i", 8)
    pack = struct.Struct(">qi16si").pack
    return lambda micros, width, record_id, length: begin + pack(micros, width, record_id, length)


def _copy(wire: Any, data: bytes) -> None:
    """One COPY on a connection whose calls do not block; raises `psycopg.Error` when it was not committed."""
    wire.send_query(COPY_RECORDS.encode())
    result = _result(wire)
    if result.status != ExecStatus.COPY_IN:
        raise _error(result)
    wire.put_copy_data(data)
    wire.put_copy_end()
    result = _result(wire)
    if result.status != ExecStatus.COMMAND_OK:
        raise _error(result)
    _result(wire)


def _result(wire: Any) -> Any:
    """Send what is not sent yet; the next result, None behind the last one."""
    poll = select.poll()
    poll.register(wire.socket, select.POLLIN | select.POLLOUT)
    while wire.flush():
        _await(wire, poll)
    poll.modify(wire.socket, select.POLLIN)
    while wire.is_busy():
        _await(wire, poll)
    return wire.get_result()


def _await(wire: Any, poll: select.poll) -> None:
    ready = poll.poll(ANSWER_MS)
    if not ready:
        raise psycopg.OperationalError("the database does not answer")
    if ready[0][1] & ~select.POLLOUT:
        wire.consume_input()


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
