"""The account of buffered decisions: what was promised, what is kept, and so what is missing.

A promise is counted in a mapped file of this process before the answer leaves, so it outlives the process; what is
kept is counted in the transaction that keeps it. When a process has gone, any other one on this node reads its file
and records the difference as missing. (A node that loses power may lose the last promises with it.)
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, mapped_column

from identity.audit.encode import Stored, encode
from identity.audit.kinds import Kind
from identity.audit.store import insert_missing, insert_records
from identity.core.db import Base, Database
from identity.core.errors import TesseraError, Unavailable
from identity.core.record import Actor, Record, StandingCall
from identity.core.secrets import new_id

_SLOTS, _CODE, _SLOT = 256, 120, 128
SETTLE_S = 5.0


class RecorderAccount(Base):
    """How many buffered decisions of a process are accounted for: kept, or recorded as missing."""

    __tablename__ = "recorder_account"

    process: Mapped[UUID] = mapped_column(primary_key=True)
    application: Mapped[str] = mapped_column(primary_key=True)
    accounted: Mapped[int]


@dataclass(frozen=True, slots=True)
class _Note:
    """That decisions were dropped: written once, also when it is not known whether a first try was committed."""

    application: str
    count: int
    stored: Stored


class Buffered:
    """The account of this process; its file is made with the first promise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: UUID | None = None
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._dropped: dict[str, int] = {}
        self._dropped_since: datetime | None = None
        self._notes: list[_Note] = []
        self._settled_at = 0.0

    def promise(self, application: str, count: int) -> None:
        """Count decisions that are about to be answered; raises `Unavailable` when they cannot be counted."""
        with self._lock:
            try:
                if self._file is None:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._process = new_id()
                    self._file = _File(self._folder / f"{self._process}.account", create=True)
                self._file.add(application, count)
            except (OSError, ValueError) as error:
                raise Unavailable("The service cannot record this now.", str(error), code="audit_failed") from error

    def drop(self, application: str, count: int) -> None:
        """Count promised decisions that are not kept."""
        with self._lock:
            self._dropped[application] = self._dropped.get(application, 0) + count
            self._dropped_since = self._dropped_since or datetime.now(UTC)

    def account(self, connection: Connection, kept: Mapping[str, int]) -> None:
        """Account in this transaction for what it keeps, and record what was dropped before it."""
        if self._process is None:
            return
        with self._lock:
            if self._dropped and not self._notes:
                since, now = self._dropped_since or datetime.now(UTC), datetime.now(UTC)
                self._notes = [
                    _Note(application, count, _missing(application, count, since, now, self._process))
                    for application, count in self._dropped.items()
                ]
                self._dropped, self._dropped_since = {}, None
        accounted = dict(kept)
        for note in self._notes:
            new = insert_missing(connection, note.stored)
            accounted[note.application] = accounted.get(note.application, 0) + (note.count if new else 0)
        for application, count in accounted.items():
            _add(connection, self._process, application, count)

    def accounted(self) -> None:
        """The transaction of the last `account` was committed."""
        self._notes = []

    def settle_others(self, database: Database) -> None:
        """Record what processes of this node that have gone left missing; at most every five seconds."""
        if time.monotonic() - self._settled_at < SETTLE_S:
            return
        self._settled_at = time.monotonic()
        settle(database, self._folder)

    def close(self) -> None:
        """Release the file; what it counts is settled by whoever comes next."""
        with self._lock:
            if self._file is not None:
                self._file.close()


def settle(database: Database, folder: Path) -> int:
    """Settle the accounts of all processes that have gone; the number of decisions found missing."""
    missing = 0
    for path in sorted(folder.glob("*.account")):
        try:
            file = _File(path, create=False)
        except OSError:
            continue  # its process lives, or another one settles it
        try:
            with database.write() as connection:
                missing += _settle(connection, file, UUID(path.stem))
            path.unlink()
            with database.write() as connection:
                connection.execute(delete(RecorderAccount).where(RecorderAccount.process == UUID(path.stem)))
        except TesseraError:
            pass  # tried again with the next round
        finally:
            file.close()
    return missing


def _settle(connection: Connection, file: _File, process: UUID) -> int:
    rows = select(RecorderAccount.application, RecorderAccount.accounted).where(RecorderAccount.process == process)
    accounted = {row.application: row.accounted for row in connection.execute(rows)}
    now, missing = datetime.now(UTC), 0
    for application, promised in file.read().items():
        gap = promised - accounted.get(application, 0)
        if gap > 0:
            insert_records(connection, [_missing(application, gap, file.since, now, process)])
            _add(connection, process, application, gap)
            missing += gap
    return missing


def _missing(application: str, count: int, since: datetime, until: datetime, process: UUID) -> Stored:
    record = Record(
        kind=Kind.DECISIONS_MISSED,
        result="failed",
        application=application,
        data={"count": count, "since": since, "until": until, "process": process},
    )
    return encode(StandingCall(Actor.system("recorder"), until), [record], None)[0]


def _add(connection: Connection, process: UUID, application: str, count: int) -> None:
    maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = maker(RecorderAccount).values(process=process, application=application, accounted=count)
    total = RecorderAccount.accounted + statement.excluded.accounted
    connection.execute(
        statement.on_conflict_do_update(index_elements=["process", "application"], set_={"accounted": total})
    )


class _File:
    """Slots of (application code, promised); held locked while its process lives."""

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if create:
                os.posix_fallocate(self._descriptor, 0, _SLOTS * _SLOT)
            self._map = mmap.mmap(self._descriptor, _SLOTS * _SLOT)
        except (OSError, ValueError) as error:
            os.close(self._descriptor)
            raise OSError(f"{path} cannot be used") from error
        self.since = datetime.fromtimestamp(os.fstat(self._descriptor).st_mtime, UTC)
        self._offsets = {code: offset for offset, code, _ in self._slots()}

    def add(self, application: str, count: int) -> None:
        offset = self._offsets.get(application)
        if offset is None:
            offset = len(self._offsets) * _SLOT
            if offset >= _SLOTS * _SLOT:
                raise ValueError("too many buffered applications")
            code = application.encode()
            if len(code) > _CODE - 1:
                raise ValueError("the application's code is too long")
            self._map[offset : offset + _CODE] = code.ljust(_CODE, b"\0")
            self._offsets[application] = offset
        place = offset + _CODE
        struct.pack_into("<Q", self._map, place, struct.unpack_from("<Q", self._map, place)[0] + count)

    def read(self) -> dict[str, int]:
        return {code: promised for _, code, promised in self._slots()}

    def close(self) -> None:
        if not self._map.closed:
            self._map.close()
            os.close(self._descriptor)

    def _slots(self) -> list[tuple[int, str, int]]:
        found = []
        for offset in range(0, _SLOTS * _SLOT, _SLOT):
            code = bytes(self._map[offset : offset + _CODE]).rstrip(b"\0")
            if code:
                found.append((offset, code.decode(), struct.unpack_from("<Q", self._map, offset + _CODE)[0]))
        return found
