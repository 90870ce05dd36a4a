"""Values changed here, written to the directories that people come from: by the worker, with pauses, given up visibly.

What a write ends with is never kept against the directory: a value that could not be written there goes here, too, by
a run of that one entry, and stays on the directory's page until somebody lets it be written again or drops it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import delete, or_, select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound, TesseraError
from identity.core.record import Actor, Record
from identity.core.unit import Unit, Units
from identity.directory.kept import KeptDirectories
from identity.directory.models import DirectorySource
from identity.directory.reader import Edit, Written
from identity.directory.settings import DirectorySettings
from identity.directory.writable import written_fields
from identity.people.models import PersonProfile, SourceAccount, User, WriteBack
from identity.sync.models import SyncRun, SyncState
from identity.sync.only import Only
from identity.sync.run import run_source

ACTOR = Actor.system("worker:write-back")
BATCH = 500
SOURCES = 8
# With these pauses a directory may be away for about half a day.
ATTEMPTS_MAX = 24
PAUSE_MAX_S = 3_600
KEPT_DONE = timedelta(hours=2)
KEPT = timedelta(days=90)

_log = logging.getLogger(__name__)

_WHERE = (
    select(
        *(WriteBack.id, WriteBack.field, WriteBack.value, WriteBack.expected, WriteBack.asked_at),
        *(SourceAccount.immutable_id, User.login, User.id.label("user_id"), User.person_id),
        DirectorySource.id.label("source_id"),
        *(DirectorySource.code, DirectorySource.kind, DirectorySource.settings, DirectorySource.secret_ref),
        DirectorySource.write_back,
    )
    .join(SourceAccount, SourceAccount.id == WriteBack.account_id)
    .join(User, User.id == SourceAccount.user_id)
    .join(DirectorySource, DirectorySource.id == SourceAccount.source_id)
    .outerjoin(SyncState, SyncState.source_id == DirectorySource.id)
)


class Writer:
    """Writes what waits; `run` is called once a second by the worker."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._directories = KeptDirectories()

    def run(self, now: datetime) -> int:
        """Write what is due, each source's values one after the other; the number written. A source that does not
        answer is asked once, beside the others; a paused one waits for a person as its runs do."""
        with self._units.open(ACTOR, write=False, now=now) as unit:
            due = unit.db.execute(
                _WHERE.where(
                    WriteBack.state == "waiting",
                    WriteBack.next_at <= now,
                    DirectorySource.enabled,
                    SyncState.paused.is_(None),
                )
                .order_by(DirectorySource.code, WriteBack.asked_at)
                .limit(BATCH)
            ).all()
        if not due:
            self._take_again(now)
            return 0
        groups = [list(rows) for _, rows in groupby(due, key=lambda row: row.code)]
        with ThreadPoolExecutor(min(SOURCES, len(groups)), "write-back") as pool:
            outcomes = [one for part in pool.map(self._write_all, groups) for one in part]
        with self._units.open(ACTOR, now=now) as unit:
            for row, written in outcomes:
                _note(unit, row, written)
        self._take_again(now)
        return sum(written.outcome == "ok" for _, written in outcomes)

    def close(self) -> None:
        """End the kept connections."""
        self._directories.close()

    def _write_all(self, rows: Sequence[Any]) -> list[tuple[Any, Written]]:
        found: list[tuple[Any, Written]] = []
        away: Written | None = None
        for row in rows:
            written = away or self._write(row)
            if written.outcome == "unavailable":
                away = written
            found.append((row, written))
        return found

    def _write(self, row: Any) -> Written:
        try:
            settings = DirectorySettings.load(row.kind, row.settings)
            if row.field not in written_fields(settings, row.write_back):
                return Written("off")
            directory = self._directories.of(row.source_id, row.kind, row.settings, row.secret_ref)
        except TesseraError as error:
            return Written("unavailable", detail=error.code)
        # Where there is no name of its own, we took the common name or the login for it.
        expected = {*row.expected, *({None} if row.field == "name" else ())}
        return directory.write(row.immutable_id, Edit(getattr(settings.attributes, row.field), expected, row.value))

    def _take_again(self, now: datetime) -> None:
        """Where a value was not written, or came there late, let the directory's word count here."""
        with self._units.open(ACTOR, write=False, now=now) as unit:
            runs = or_(DirectorySource.live, DirectorySource.cron.is_not(None), DirectorySource.interval_s.is_not(None))
            query = _WHERE.where(~WriteBack.taken, DirectorySource.enabled, SyncState.paused.is_(None), runs)
            rows = unit.db.execute(query.order_by(DirectorySource.code).limit(BATCH)).all()
        for code, group in groupby(rows, key=lambda row: row.code):
            entries = list(group)
            try:
                only = Only(entries=frozenset(row.immutable_id for row in entries))
                run_source(self._units, code, Actor.system(f"sync:{code}"), only=only)
            except Conflict:
                continue
            except TesseraError as error:
                _log.warning("write-back of %s: %s", code, error)
            with self._units.open(ACTOR, now=now) as unit:
                for row in entries:
                    unit.db.get_one(WriteBack, row.id).taken = True


def retry(unit: Unit, code: str, item_id: UUID) -> None:
    """Write this failed value after all; raises `NotFound`, and `Conflict` for one that has not failed: where the
    directory has a newer value, that person is changed again."""
    row, where = _ended(unit, code, item_id)
    if row.state != "failed":
        raise Conflict("The directory has a newer value; change the person again if it is wrong.", code="overtaken")
    row.state, row.attempts, row.next_at, row.ended_at, row.taken = "waiting", 0, unit.now, None, True
    unit.record(_record(Kind.WRITE_BACK_RETRIED, where, row))


def drop(unit: Unit, code: str, item_id: UUID) -> None:
    """Forget this value that was not written; raises `NotFound`, and `Conflict` for one that still waits."""
    row, where = _ended(unit, code, item_id)
    unit.record(_record(Kind.WRITE_BACK_DROPPED, where, row))
    unit.db.delete(row)


def forget_ended(units: Units, now: datetime) -> None:
    """Values hold names and addresses: those that were written go when no run can plan what they overtook, those that
    were not when nobody has cared for so long."""
    with units.open(ACTOR, now=now) as unit:
        done = (WriteBack.state == "done") & (WriteBack.ended_at < now - KEPT_DONE)
        left = WriteBack.state.in_(("failed", "newer")) & (WriteBack.ended_at < now - KEPT)
        unit.db.execute(delete(WriteBack).where(done | left))


def _ended(unit: Unit, code: str, item_id: UUID) -> tuple[WriteBack, Any]:
    unit.require("run", "sync", code)
    row = unit.db.get(WriteBack, item_id, with_for_update=True)
    where = unit.db.execute(_WHERE.where(WriteBack.id == item_id, DirectorySource.code == code)).first()
    if row is None or where is None or row.state == "done":
        raise NotFound("There is no such change.")
    if row.state == "waiting":
        raise Conflict("This change still waits to be written.", code="write_back_waits")
    return row, where


def _note(unit: Unit, due: Any, written: Written) -> None:
    """Write down what came of it; a value that was changed again meanwhile goes on waiting."""
    row = unit.db.get(WriteBack, due.id, with_for_update=True)
    if row is None or (row.value, row.asked_at) != (due.value, due.asked_at):
        if written.outcome == "ok":
            unit.record(_record(Kind.WRITE_BACK_DONE, due, row))
        return
    row.attempts += 1
    row.detail = written.detail or None
    if written.outcome == "unavailable" and row.attempts < ATTEMPTS_MAX:
        pause = min(2**row.attempts, PAUSE_MAX_S)
        row.next_at = unit.now + timedelta(seconds=pause * random.uniform(0.8, 1.2))
        return
    row.ended_at, row.found = unit.now, written.found
    held = unit.db.execute(
        select(getattr(PersonProfile, row.field)).where(PersonProfile.person_id == due.person_id)
    ).scalar_one()
    if written.outcome == "ok":
        row.state, row.found, row.taken = "done", None, held == row.value
        row.run_id = unit.db.execute(
            select(SyncRun.id).where(SyncRun.source_id == due.source_id, SyncRun.state == "running")
        ).scalar()
        unit.record(_record(Kind.WRITE_BACK_DONE, due, row))
        return
    row.state = "newer" if written.outcome == "newer" else "failed"
    row.detail = written.detail or written.outcome
    row.taken = written.outcome not in {"newer", "refused", "off"} or held == written.found
    if written.outcome in {"newer", "refused"}:
        account = unit.db.get_one(SourceAccount, row.account_id)
        account.seen = {**(account.seen or {}), row.field: written.found}
    kind = Kind.WRITE_BACK_OVERTAKEN if row.state == "newer" else Kind.WRITE_BACK_FAILED
    unit.record(_record(kind, due, row))


def _record(kind: Kind, where: Any, row: WriteBack | None) -> Record:
    failed = kind in {Kind.WRITE_BACK_FAILED, Kind.WRITE_BACK_OVERTAKEN}
    data: dict[str, Any] = {"login": where.login, "field": where.field, "attempts": row.attempts if row else 1}
    if failed and row is not None and row.detail:
        data["detail"] = row.detail
    return Record(
        kind=kind,
        result="failed" if failed else "success",
        user=where.user_id,
        person=where.person_id,
        resource_type="directory",
        resource_id=where.code,
        data=data,
    )
