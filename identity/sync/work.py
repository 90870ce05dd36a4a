"""A run under way: its row, its source's lease, its stages, and how it ends."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.bulk import insert_rows
from identity.core.errors import Conflict, NotFound, TesseraError
from identity.core.facts import current_revision
from identity.core.lease import Held, acquire, kept, renew
from identity.core.record import Actor, Record
from identity.core.secrets import new_id
from identity.core.unit import Unit, Units
from identity.directory.models import DirectorySource
from identity.directory.settings import DirectorySettings
from identity.sync.apply import Progress
from identity.sync.models import SyncChange, SyncRun, SyncState
from identity.sync.plan import Change

LEASE_S = 120
STORE = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    run_id: UUID
    state: str
    counts: Mapping[str, int]
    error: str | None
    failed: int = 0


@dataclass(slots=True)
class Work:
    """A run under way."""

    units: Units
    source: DirectorySource
    run_id: UUID
    actor: Actor
    held: Held
    progress: Progress | None = None
    timings: dict[str, float] = field(default_factory=dict)
    partial: bool = False
    """A run of a few entries says nothing about how far the source is."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time this stage and tell who watches that it begins."""
        if self.progress is not None:
            self.progress(name, 0)
        started, worked = time.monotonic(), time.process_time()
        yield
        self.timings[name] = round(time.monotonic() - started, 3)
        self.timings[f"{name}_cpu"] = round(time.process_time() - worked, 3)

    @property
    def system(self) -> Actor:
        """What a run changes is the system's doing; who started it stands in the run and its records."""
        return Actor.system(f"sync:{self.source.code}")


@contextmanager
def work_on(
    units: Units, code: str, actor: Actor, mode: str, reason: str | None, progress: Progress | None, **columns: Any
) -> Iterator[Work]:
    """A new run that holds the source's lease."""
    with units.open(actor, reason=reason) as unit:
        source = find_source(unit, code)
        unit.require("run", "sync", code)
        run_id = new_id()
        held = acquire(unit.db, f"sync:{code}", str(run_id), unit.now, LEASE_S)
        unit.db.add(
            SyncRun(
                id=run_id,
                source_id=source.id,
                mode=mode,
                state="running",
                started_by=actor.id,
                started_at=unit.now,
                **columns,
            )
        )
        unit.record(_record(Kind.SYNC_STARTED, source, {"mode": mode, "run": str(run_id)}))
        unit.db.flush()
        unit.db.expunge(source)
    with kept(units, actor, held, LEASE_S):
        yield Work(units, source, run_id, actor, held, progress)


@contextmanager
def reopened(units: Units, run_id: UUID, actor: Actor, reason: str, expected: str) -> Iterator[Work]:
    """An earlier run that is in state `expected`, held again; raises `NotFound`, `Conflict`."""
    with units.open(actor, reason=reason) as unit:
        run = unit.db.get(SyncRun, run_id)
        if run is None:
            raise NotFound("There is no such run.")
        source = unit.db.get_one(DirectorySource, run.source_id)
        unit.require("run", "sync", source.code)
        held = acquire(unit.db, f"sync:{source.code}", str(run_id), unit.now, LEASE_S)
        if run.state != expected:
            raise Conflict(f"This run is {run.state}, no longer {expected}.", code="run_state")
        unit.db.expunge(source)
    with kept(units, actor, held, LEASE_S):
        yield Work(units, source, run_id, actor, held)


def guarded(work: Work, act: Callable[[], Outcome]) -> Outcome:
    """Run `act`; whatever happens, the run does not stay open."""
    try:
        return act()
    except TesseraError as error:
        return end_run(work, "failed", {}, error.public)
    except Exception:
        end_run(work, "failed", {}, "The run met a fault of ours; see the log.")
        raise


def end_run(work: Work, state: str, counts: Mapping[str, int], error: str | None) -> Outcome:
    """The run is over, in this state."""
    kinds = {"failed": Kind.SYNC_FAILED, "held": Kind.SYNC_HELD}
    with work.units.open(work.actor) as unit:
        run = unit.db.get_one(SyncRun, work.run_id)
        # A plan that was being applied stays as far as it is: the next run finishes it.
        run.state = "applying" if state == "failed" and run.state == "applying" else state
        run.finished_at, run.error = unit.now, error
        run.timings = {**run.timings, **work.timings}
        run.facts_revision = current_revision(unit.db)
        if not work.partial:
            _note_state(unit, work.source, run, state)
        data = {"run": str(work.run_id), "state": state, "counts": dict(counts), "error": error, "failed": run.failed}
        unit.record(_record(kinds.get(state, Kind.SYNC_FINISHED), work.source, data))
        failed = run.failed
    return Outcome(work.run_id, state, counts, error if state in {"failed", "held"} else None, failed)


def _note_state(unit: Unit, source: DirectorySource, run: SyncRun, state: str) -> None:
    row = state_of(unit, source.id)
    row.checked_at = unit.now
    if run.mode == "check" and state != "failed":
        row.compared_at = unit.now
    if state == "failed":
        row.failures += 1
        return
    if run.mode not in {"apply", "check"} or state != "applied":
        return
    row.failures, row.success_at = 0, unit.now
    row.fingerprint = fingerprint(source)
    row.cursor = run.cursor
    if run.failed:
        # What could not be made is met again only when everything is read again.
        row.full_at = None
    elif run.complete and run.cursor:
        row.full_at = unit.now


def state_of(unit: Unit, source_id: UUID) -> SyncState:
    """How far the source is; made when nothing has run yet."""
    row = unit.db.get(SyncState, source_id)
    if row is None:
        row = SyncState(source_id=source_id, cursor={}, failures=0)
        unit.db.add(row)
    return row


def find_source(unit: Unit, code: str) -> DirectorySource:
    """The source of this code; raises `NotFound`."""
    source = unit.db.execute(select(DirectorySource).where(DirectorySource.code == code)).scalar_one_or_none()
    if source is None:
        raise NotFound(f"There is no directory {code!r}.")
    return source


def fingerprint(source: DirectorySource) -> str:
    """Changes whenever what is read, or how it is understood, could."""
    return hashlib.sha256(orjson.dumps([source.kind, source.settings], option=orjson.OPT_SORT_KEYS)).hexdigest()


def cursor_of(
    unit: Unit, source: DirectorySource, settings: DirectorySettings, *, delta: bool = False
) -> Mapping[str, str] | None:
    """Where to read on from, unless the settings have changed or everything is due, which may wait for `delta`."""
    state = unit.db.get(SyncState, source.id)
    if state is None or not state.cursor or state.fingerprint != fingerprint(source):
        return None
    due = state.full_at is None or unit.now - state.full_at >= timedelta(seconds=settings.full_every_s)
    return dict(state.cursor) if delta or not due else None


def store(work: Work, changes: tuple[Change, ...]) -> None:
    """Keep these changes as the run's plan."""
    for start in range(0, len(changes), STORE):
        rows = [
            {
                "run_id": work.run_id,
                "seq": seq,
                "kind": one.kind,
                "immutable_id": one.immutable_id,
                "title": one.title,
                "reason": one.reason,
                "before": one.before,
                "after": one.after,
                "error": None,
            }
            for seq, one in enumerate(changes[start : start + STORE], start + 1)
        ]
        with work.units.open(work.actor) as unit:
            renew(unit.db, work.held, unit.now, LEASE_S)
            insert_rows(unit.db.connection(), SyncChange, rows)


def _record(kind: Kind, source: DirectorySource, data: dict[str, Any]) -> Record:
    result: Any = "failed" if kind in {Kind.SYNC_FAILED, Kind.SYNC_HELD} else "success"
    return Record(kind=kind, result=result, resource_type="directory", resource_id=source.code, data=data)
