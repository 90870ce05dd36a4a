"""Durable recording: in the transaction of a Unit, or by group commit on the one writer thread of this process.

A caller of `submit` waits once, holding nothing; while a commit is under way the next batch gathers (foundations §6).
"""

from __future__ import annotations

import logging
import threading
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection

from identity.audit.buffered import Buffered
from identity.audit.direct import direct
from identity.audit.encode import Stored, encode
from identity.audit.store import insert_missing, insert_records, take
from identity.core.db import Base, Database, in_transaction
from identity.core.errors import Conflict, Unavailable
from identity.core.record import Call, Record

QUEUE_MAX = 20_000
QUEUE_BYTES_MAX = 64 * 1_048_576
BATCH_MAX = 1_000
WAIT_S, WATCH_S = 10.0, 0.5
IDLE_S = 0.2
# When many ask at once, the next batch waits this long for the rest of them: a commit costs what ten records do.
GATHER_S, MANY = 0.001, 4

_log = logging.getLogger(__name__)


class AlreadyUsed(Conflict):
    """The single-use row was taken by an earlier request; its refusal is recorded."""


@dataclass(frozen=True, slots=True)
class SingleUse:
    """A row that only one request may insert; `refusal` is recorded instead of the request's records when it loses
    (None where another row of the request has it). A request's first row decides; the others follow it."""

    table: type[Base]
    values: Mapping[str, Any]
    refusal: Record | None


class _Job:
    """What one request hands over. `done` is held until it is durable or has failed; a buffered one has no waiter,
    nor has one with `then`, which is called instead.

    Of a batch only the first waiter is woken, and each wakes the one behind it (`following`) when it is its turn: woken
    all at once they would only stand in line for the interpreter's lock, and be put to sleep again. One that has given
    up (`gone`) is left out, or passes it on when the batch was done just then.
    """

    __slots__ = (
        *("application", "done", "ended", "error", "following", "gone", "lost", "packed", "refusals", "rows"),
        *("since", "size", "stored", "then", "tried"),
    )

    def __init__(
        self,
        stored: list[Stored],
        rows: Sequence[SingleUse] = (),
        refusals: Sequence[Stored] = (),
        application: str | None = None,
        packed: Sequence[Any] = (),
        then: Callable[[Unavailable | None], None] | None = None,
    ) -> None:
        self.stored = stored
        self.rows = rows
        self.refusals = refusals
        self.application = application
        self.packed = packed
        self.then = then
        self.since = time.monotonic() if then is not None else 0.0
        self.size = sum([len(one.body) for one in stored])
        self.done: LockType = allocate_lock()
        self.done.acquire()
        self.error: Exception | None = None
        self.following: _Job | None = None
        self.ended = self.gone = self.lost = self.tried = False


class Recorder:
    """The process's recorder; implements `core.unit.RecordSink`."""

    def __init__(
        self,
        database: Database,
        buffered: Buffered | None = None,
        *,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        wait_s: float = WAIT_S,
    ) -> None:
        """`wait_s`: nobody waits longer to hear whether his records are durable, about."""
        self._database = database
        self._queue_max, self._queue_bytes_max = queue_max, queue_bytes_max
        self._buffered = buffered
        self._wait_s = wait_s
        self._direct = direct(database, wait_s)
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._again: list[_Job] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told_later: deque[_Job] = deque()
        self._ended = threading.Event()
        self._jobs = 0
        self._bytes = 0
        self._recent = 0
        self._stopping = False
        self._counts: dict[str, float] = dict.fromkeys(
            ("records", "commits", "commit_s", "commit_s_max", "failed", "full"), 0
        )

    def write(self, connection: Connection, call: Call, records: Sequence[Record], revision: int | None) -> None:
        """Insert the records in this transaction."""
        if records:
            insert_records(connection, encode(call, records, revision))

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
        stored = encode(call, records, None)
        if rows:
            refusals = [row.refusal for row in rows if row.refusal is not None]
            job = _Job(stored, rows, encode(call, refusals, None) if refusals else ())
        else:
            job = _Job(stored, packed=self._packed(stored))
        self._put_or_raise(job)
        self._wait(job)
        if job.error is not None:
            raise _failed(job.error)
        if job.lost:
            raise AlreadyUsed("This was used already.", code="already_used")

    def submit_later(self, call: Call, records: Sequence[Record], then: Callable[[Unavailable | None], None]) -> None:
        """As `submit`, but return at once: `then` is called once on another thread, when they are durable or with why
        they are not; it must not wait. Raises `Unavailable` when the queue is full."""
        stored = encode(call, records, None)
        self._put_or_raise(_Job(stored, packed=self._packed(stored), then=then))

    def submit_buffered(self, call: Call, records: Sequence[Record], application: str) -> None:
        """Take decisions of an application that chose not to wait; what cannot be kept is counted as missing.

        Only decisions: a credential is never handed out without its record.
        """
        stored = encode(call, records, None)
        if self._buffered is None or any(one.retention_class != "decision" for one in stored):
            raise ValueError("only decisions can be buffered")
        self._buffered.promise(application, len(stored))
        if not self._put(_Job(stored, application=application)):
            self._buffered.drop(application, len(stored))

    def metrics(self) -> dict[str, float]:
        """Counters since the start of this process, and how long its queue is now; seconds in `…_s`."""
        return {**self._counts, "queue_jobs": self._jobs, "queue_bytes": self._bytes}

    def stop(self) -> None:
        """Write what is queued and end the thread; later submits are refused."""
        with self._lock:
            self._stopping = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout=30)
        self._ended.set()
        if self._buffered is not None:
            self._buffered.close()

    def _wait(self, job: _Job) -> None:
        """Until the job has ended; raises `Unavailable` when that takes too long."""
        in_time = job.done.acquire(timeout=self._wait_s)
        if not in_time:
            with self._lock:
                job.gone = True
        if (in_time or job.ended) and job.following is not None:
            job.following.done.release()
        if not in_time:
            raise _slow()

    def _packed(self, stored: Sequence[Stored]) -> Sequence[Any]:
        """The records for the direct way; none where values go to other tables too."""
        return () if any(one.personal for one in stored) else self._direct.pack(stored)

    def _put_or_raise(self, job: _Job) -> None:
        if not self._put(job):
            raise Unavailable("The service cannot record this now.", "audit queue is full", code="audit_full")

    def _put(self, job: _Job) -> bool:
        with self._lock:
            if self._stopping or self._jobs >= self._queue_max or self._bytes + job.size > self._queue_bytes_max:
                self._counts["full"] += 1
                return False
            if self._thread is None:
                # Not a daemon: the interpreter waits for it, and it ends when all is written and nobody is left to ask.
                # Said aloud, for the server's own threads would hand on that they are daemons.
                self._thread = threading.Thread(target=self._run, name="audit-recorder", daemon=False)
                self._thread.start()
                threading.Thread(target=self._watch, name="audit-recorder-watch", daemon=True).start()
            if job.then is not None:
                self._told_later.append(job)
            self._jobs += 1
            self._bytes += job.size
        self._queue.put(job)
        return True

    def _run(self) -> None:
        main = threading.main_thread()
        while True:
            batch = self._gather()
            if batch:
                self._commit(batch)
            elif self._stopping or not main.is_alive():
                break
            if self._buffered is not None:
                self._buffered.settle_others(self._database)
        self._direct.close()

    def _gather(self) -> list[_Job]:
        batch, self._again = self._again[:BATCH_MAX], self._again[BATCH_MAX:]
        try:
            job = self._queue.get(timeout=IDLE_S)
            if self._recent >= MANY and not self._stopping:
                time.sleep(GATHER_S)
            while job is not None:
                batch.append(job)
                job = self._queue.get_nowait() if len(batch) < BATCH_MAX else None
        except Empty:
            pass
        self._recent = len(batch)
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            self._write(batch)
        except Unavailable as error:
            self._fail(batch, error)
            return
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may wait for ever
            if len(batch) > 1:
                # One bad job must not take the others with it.
                self._commit(batch[: len(batch) // 2])
                self._commit(batch[len(batch) // 2 :])
                return
            _log.exception("a record could not be written")
            for job in batch:
                if job.application is not None and self._buffered is not None:
                    self._buffered.drop(job.application, len(job.stored))
            self._counts["failed"] += len(batch)
            self._finish(batch, error)
            return
        self._finish(batch, None)
        took = time.perf_counter() - started
        counts = self._counts
        counts["commits"] += 1
        counts["records"] += sum(len(job.stored) for job in batch)
        counts["commit_s"] += took
        counts["commit_s_max"] = max(counts["commit_s_max"], took)

    def _fail(self, batch: list[_Job], error: Unavailable) -> None:
        """Those who wait are told; what is buffered is tried again, unless the process ends."""
        keep = not self._stopping and threading.main_thread().is_alive()
        again = [job for job in batch if job.application is not None and keep]
        for job in again:
            job.tried = True
        self._again = again + self._again
        self._counts["failed"] += len(batch) - len(again)
        self._finish([job for job in batch if job.application is None or not keep], error)

    def _finish(self, batch: list[_Job], error: Exception | None) -> None:
        following: _Job | None = None
        with self._lock:
            self._jobs -= len(batch)
            self._bytes -= sum([job.size for job in batch])
            told = [job for job in batch if job.then is not None and not job.gone]
            for job in reversed(batch):
                job.error = error
                job.ended = True
                if not job.gone and job.application is None and job.then is None:
                    job.following, following = following, job
            while self._told_later and self._told_later[0].ended:
                self._told_later.popleft()
        if following is not None:
            following.done.release()
        for job in told:
            _tell(job, _failed(error) if error is not None else None)

    def _watch(self) -> None:
        """See that nobody waits too long, whatever the writer hangs on."""
        while not self._ended.wait(min(WATCH_S, self._wait_s)):
            self._direct.watch()
            before = time.monotonic() - self._wait_s
            with self._lock:
                late = []
                while self._told_later and self._told_later[0].since < before:
                    job = self._told_later.popleft()
                    job.gone = True
                    late += [job] if not job.ended else []
            for job in late:
                _tell(job, _slow())

    def _write(self, batch: list[_Job]) -> None:
        if all(job.packed for job in batch):
            self._direct.write([part for job in batch for part in job.packed])
            return
        with self._database.write() as connection:
            _take_rows(connection, batch)
            fresh = [job for job in batch if not job.tried]
            insert_records(connection, [one for job in fresh for one in (job.refusals if job.lost else job.stored)])
            if self._buffered is not None:
                self._buffered.account(connection, self._kept(connection, batch))
        if self._buffered is not None:
            self._buffered.accounted()

    def _kept(self, connection: Connection, batch: list[_Job]) -> dict[str, int]:
        """The number of buffered records that this transaction adds, by application."""
        kept: dict[str, int] = {}
        for job in batch:
            if job.application is not None:
                new = sum(insert_missing(connection, one) for one in job.stored) if job.tried else len(job.stored)
                kept[job.application] = kept.get(job.application, 0) + new
        return kept


def _failed(error: Exception) -> Unavailable:
    return Unavailable("The service cannot record this now.", str(error), code="audit_failed")


def _slow() -> Unavailable:
    return Unavailable("The service cannot record this now.", "audit commit takes too long", code="audit_slow")


def _tell(job: _Job, error: Unavailable | None) -> None:
    try:
        if job.then is not None:
            job.then(error)
    except Exception:  # noqa: BLE001  the recorder outlives whatever one answer does
        _log.exception("an answer could not be sent")


def _take_rows(connection: Connection, batch: list[_Job]) -> None:
    """Each job's first row decides; the winners' other rows follow."""
    asking = [job for job in batch if job.rows]
    for number in range(max((len(job.rows) for job in asking), default=0)):
        mine = [job for job in asking if len(job.rows) > number and not job.lost]
        taken = take(connection, [(job.rows[number].table, job.rows[number].values) for job in mine])
        for job, got in zip(mine, taken, strict=True):
            job.lost = not got
