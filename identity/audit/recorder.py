"""Durable recording: in the transaction of a Unit, or by group commit on the one writer thread of this process.

A caller of `submit` waits once, holding nothing; while a commit is under way the next batch gathers (foundations §6).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite

from identity.audit.encode import Stored, encode
from identity.audit.models import AuditPersonal, AuditRecord
from identity.core.db import Base, Database, in_transaction, to_micros
from identity.core.errors import Conflict, TesseraError, Unavailable
from identity.core.record import Call, Record

QUEUE_MAX = 20_000
BATCH_MAX = 1_000
WAIT_S = 10.0


class AlreadyUsed(Conflict):
    """The single-use row was taken by an earlier request; its refusal is recorded."""


@dataclass(frozen=True, slots=True)
class SingleUse:
    """A row that only one request may insert; `refusal` is recorded instead of the request's records when it loses
    (None where another row of the request has it)."""

    table: type[Base]
    values: Mapping[str, Any]
    refusal: Record | None


@dataclass(slots=True)
class _Job:
    stored: list[Stored]
    rows: Sequence[SingleUse]
    refusals: list[Stored]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    lost: bool = False


class Recorder:
    """The process's recorder; implements `core.unit.RecordSink`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def write(self, connection: Connection, call: Call, records: Sequence[Record], revision: int | None) -> None:
        """Insert the records in this transaction."""
        if records:
            _insert(connection, encode(call, records, revision))

    def submit(self, call: Call, records: Sequence[Record], rows: Sequence[SingleUse] = ()) -> None:
        """Return when the records (and the single-use rows with them) are durable.

        Raises `AlreadyUsed` when a row was taken before: then only its refusal is recorded. Raises `Unavailable`
        when the queue is full or the database does not take them. A thread with an open transaction is refused: it
        would wait for a writer that waits for it.
        """
        if in_transaction():
            raise RuntimeError("a thread with an open transaction may not wait for the recorder")
        if not records and not rows:
            return
        refusals = [row.refusal for row in rows if row.refusal is not None]
        job = _Job(encode(call, records, None), rows, encode(call, refusals, None))
        with self._condition:
            if self._stopping or len(self._queue) >= QUEUE_MAX:
                raise Unavailable("The service cannot record this now.", "audit queue is full", code="audit_full")
            self._ensure_thread()
            self._queue.append(job)
            self._condition.notify()
        if not job.done.wait(WAIT_S):
            raise Unavailable("The service cannot record this now.", "audit commit takes too long", code="audit_slow")
        if job.error is not None:
            raise Unavailable("The service cannot record this now.", str(job.error), code="audit_failed")
        if job.lost:
            raise AlreadyUsed("This was used already.", code="already_used")

    def stop(self) -> None:
        """Write what is queued and end the thread; later submits are refused."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="audit-recorder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._queue and not self._stopping:
                    self._condition.wait()
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
            self._commit(batch)

    def _commit(self, batch: list[_Job]) -> None:
        try:
            with self._database.write() as connection:
                for job in batch:
                    taken = [_take(connection, row) for row in job.rows]
                    job.lost = not all(taken)
                _insert(connection, [one for job in batch for one in (job.refusals if job.lost else job.stored)])
        except TesseraError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may wait for ever and nothing is answered
            _fail(batch, error)
        for job in batch:
            job.done.set()


def _fail(batch: Iterable[_Job], error: Exception) -> None:
    for job in batch:
        job.error = error


def _take(connection: Connection, row: SingleUse) -> bool:
    table: Table = row.table.__table__  # type: ignore[assignment]
    maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = maker(table).values(**row.values).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return connection.execute(statement).first() is not None


def _insert(connection: Connection, stored: Sequence[Stored]) -> None:
    if not stored:
        return
    if connection.dialect.name == "postgresql":
        cursor = connection.connection.cursor()
        with cursor.copy('COPY audit_record ("class", at, id, body) FROM STDIN (FORMAT BINARY)') as copy:
            copy.set_types(["text", "timestamptz", "uuid", "bytea"])
            for one in stored:
                copy.write_row((one.retention_class, one.at, one.id, one.body))
        cursor.close()
    else:
        connection.exec_driver_sql(
            'INSERT INTO audit_record ("class", at, id, body) VALUES (?, ?, ?, ?)',
            [(one.retention_class, to_micros(one.at), one.id.hex, one.body) for one in stored],
        )
    personal = [
        {
            "class": one.retention_class,
            "at": one.at,
            "record_id": one.id,
            "field": name,
            "salt": salt,
            "value": value,
        }
        for one in stored
        for name, salt, value in one.personal
    ]
    if personal:
        connection.execute(insert(AuditPersonal), personal)


__all__ = ["AlreadyUsed", "AuditRecord", "Recorder", "SingleUse"]
