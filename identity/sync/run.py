"""A run of one source: read → plan → guard → apply, one at a time across nodes, each recorded, each stage kept.

A run that was killed while it applied is finished from where it stopped before anything new is read: its plan has
passed the guard as a whole.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import delete, select, update

from identity.audit.kinds import Kind
from identity.core.bulk import insert_rows
from identity.core.errors import Conflict, NotFound, TesseraError
from identity.core.facts import current_revision
from identity.core.lease import Held, acquire, release, renew
from identity.core.record import Actor, Record
from identity.core.secrets import new_id
from identity.core.unit import Unit, Units
from identity.directory.factory import open_directory
from identity.directory.models import DirectorySource
from identity.directory.reader import Reading
from identity.directory.settings import DirectorySettings
from identity.sync import guard
from identity.sync.apply import Applier, Progress
from identity.sync.effects import Effects, effects_of
from identity.sync.known import load_known
from identity.sync.models import SyncChange, SyncRun, SyncState
from identity.sync.plan import Change, SyncPlan
from identity.sync.plan_users import make

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

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time this stage and tell who watches that it begins."""
        if self.progress is not None:
            self.progress(name, 0)
        started = time.monotonic()
        yield
        self.timings[name] = round(time.monotonic() - started, 3)

    @property
    def system(self) -> Actor:
        """What a run changes is the system's doing; who started it stands in the run and its records."""
        return Actor.system(f"sync:{self.source.code}")


def run_source(
    units: Units,
    code: str,
    actor: Actor,
    *,
    dry_run: bool = False,
    full: bool = False,
    only: str | None = None,
    reason: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run one source now. `full` reads everything, though the directory could say what changed; `only` applies what
    concerns this one login. `progress` is called with each stage and, while applying, with how far it is.

    Raises `NotFound` for an unknown source and `Conflict` while another run of it is under way.
    """
    with work_on(units, code, actor, "dry_run" if dry_run else "apply", reason, progress) as work:
        return guarded(work, lambda: _run(work, dry_run=dry_run, full=full, only=only))


def _run(work: Work, *, dry_run: bool, full: bool, only: str | None) -> Outcome:
    _finish_killed(work)
    settings = DirectorySettings.load(work.source.kind, work.source.settings)
    with work.stage("read"):
        directory = open_directory(work.source.kind, work.source.settings, work.source.secret_ref)
        reading = directory.read(None if full or only else _cursor(work, settings))
    with work.stage("plan"):
        plan, hold, effects = _plan(work, settings, reading, only)
    with work.stage("store"):
        store(work, plan.changes)
    state = "planned" if dry_run else "held" if hold else "applying"
    _planned(work, reading, plan, effects, state, "\n".join(hold) or None, keep_cursor=only is None)
    if state != "applying":
        return _end(work, state, plan.counts, "\n".join(hold) or None)
    return apply_stored(work, plan.counts)


def _plan(
    work: Work, settings: DirectorySettings, reading: Reading, only: str | None
) -> tuple[SyncPlan, list[str], Effects]:
    with work.units.open(work.actor, write=False) as unit:
        connection = unit.db.connection()
        known = load_known(connection, work.source.id)
        guard.check_reading(reading, known)
        plan = make(reading, known, settings)
        if only is not None:
            plan = SyncPlan(tuple(one for one in plan.changes if one.title == only), plan.entries)
        effects = effects_of(connection, plan, known)
    return plan, guard.check(plan, known, settings), effects


def apply_stored(work: Work, counts: Mapping[str, int]) -> Outcome:
    """Apply the run's stored plan from where it is; the run ends as applied."""
    with work.stage("apply"):
        applier = Applier(work.units, work.run_id, work.source.id, work.system, work.held, LEASE_S)
        failed = applier.run(work.progress)
    work.units.follow()
    return _end(work, "applied", counts, None, failed)


def _finish_killed(work: Work) -> None:
    """Finish what an earlier process left: a plan under way is applied to its end, anything else has failed."""
    with work.units.open(work.actor) as unit:
        query = select(SyncRun).where(SyncRun.source_id == work.source.id, SyncRun.id != work.run_id)
        left = list(unit.db.execute(query.where(SyncRun.state.in_(("running", "applying")))).scalars())
        for run in left:
            if run.state == "running":
                run.state, run.error, run.finished_at = "failed", "The process was stopped.", unit.now
    for run in left:
        if run.state == "applying":
            killed = Work(work.units, work.source, run.id, work.actor, work.held, work.progress)
            apply_stored(killed, run.counts)


def _cursor(work: Work, settings: DirectorySettings) -> Mapping[str, str] | None:
    """Where to read on from, unless everything is due or the settings have changed."""
    with work.units.open(work.actor, write=False) as unit:
        state = unit.db.get(SyncState, work.source.id)
        if state is None or not state.cursor or state.fingerprint != fingerprint(work.source):
            return None
        if state.full_at is None or unit.now - state.full_at >= timedelta(seconds=settings.full_every_s):
            return None
        return dict(state.cursor)


def fingerprint(source: DirectorySource) -> str:
    """Changes whenever what is read, or how it is understood, could."""
    return hashlib.sha256(orjson.dumps([source.kind, source.settings], option=orjson.OPT_SORT_KEYS)).hexdigest()


def store(work: Work, changes: tuple[Change, ...]) -> None:
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


def _planned(
    work: Work,
    reading: Reading,
    plan: SyncPlan,
    effects: Effects,
    state: str,
    error: str | None,
    *,
    keep_cursor: bool,
) -> None:
    """The plan is whole and judged; an earlier held plan of the source is superseded by it."""
    with work.units.open(work.actor) as unit:
        renew(unit.db, work.held, unit.now, LEASE_S)
        if state in {"held", "applying"}:
            _supersede(unit, work)
        run = unit.db.get_one(SyncRun, work.run_id)
        run.state, run.entries, run.complete = state, plan.entries, reading.complete
        run.server, run.counts, run.changes = reading.server, plan.counts, len(plan.changes)
        run.effects, run.error = effects.to_json(), error
        # Conflicts and failures are met again only when everything is read again.
        run.cursor = dict(reading.cursor) if keep_cursor else {}


def _supersede(unit: Unit, work: Work) -> None:
    query = select(SyncRun).where(SyncRun.source_id == work.source.id, SyncRun.state == "held")
    for run in unit.db.execute(query).scalars():
        run.state = "superseded"
        unit.db.execute(delete(SyncChange).where(SyncChange.run_id == run.id))


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
    with _kept(units, actor, held):
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
    with _kept(units, actor, held):
        yield Work(units, source, run_id, actor, held)


@contextmanager
def _kept(units: Units, actor: Actor, held: Held) -> Iterator[None]:
    """Renew the lease while a directory takes its time, and give it back at the end."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(LEASE_S / 3):
            try:
                with units.open(actor) as unit:
                    renew(unit.db, held, unit.now, LEASE_S)
            except TesseraError as error:
                # A lost lease shows at the next write, which it refuses.
                _log.warning("%s was not renewed: %s", held.name, error)

    keeper = threading.Thread(target=keep, name=held.name, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        with units.open(actor) as unit:
            release(unit.db, held, unit.now)


def guarded(work: Work, act: Callable[[], Outcome]) -> Outcome:
    """Run `act`; whatever happens, the run does not stay open."""
    try:
        return act()
    except TesseraError as error:
        return _end(work, "failed", {}, error.public)
    except Exception:
        _end(work, "failed", {}, "The run met a fault of ours; see the log.")
        raise


def _end(work: Work, state: str, counts: Mapping[str, int], error: str | None, failed: int = 0) -> Outcome:
    kinds = {"failed": Kind.SYNC_FAILED, "held": Kind.SYNC_HELD}
    with work.units.open(work.actor) as unit:
        run = unit.db.get_one(SyncRun, work.run_id)
        # A plan that was being applied stays as far as it is: the next run finishes it.
        run.state = "applying" if state == "failed" and run.state == "applying" else state
        run.finished_at, run.error = unit.now, error
        run.timings = {**run.timings, **work.timings}
        run.facts_revision = current_revision(unit.db)
        _note_state(unit, work.source, run, state)
        data = {"run": str(work.run_id), "state": state, "counts": dict(counts), "error": error, "failed": run.failed}
        unit.record(_record(kinds.get(state, Kind.SYNC_FINISHED), work.source, data))
        failed = run.failed
    return Outcome(work.run_id, state, counts, error if state in {"failed", "held"} else None, failed)


def _note_state(unit: Unit, source: DirectorySource, run: SyncRun, state: str) -> None:
    row = state_of(unit, source.id)
    row.checked_at = unit.now
    if state == "failed":
        row.failures += 1
        return
    if run.mode != "apply" or state != "applied":
        return
    row.failures, row.success_at = 0, unit.now
    row.fingerprint = fingerprint(source)
    row.cursor = run.cursor if not run.failed else {}
    if run.complete and run.cursor:
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


def forget_plans(units: Units, now: datetime, days: int = 90) -> None:
    """Plans hold names and addresses; after this many days, when no run is undone any more, they go."""
    with units.open(Actor.system("worker:sync"), now=now) as unit:
        old = select(SyncRun.id).where(SyncRun.started_at < now - timedelta(days=days))
        unit.db.execute(delete(SyncChange).where(SyncChange.run_id.in_(old.scalar_subquery())))


def supersede_cursor(unit: Unit, source_id: UUID) -> None:
    """The next run reads everything."""
    unit.db.execute(update(SyncState).where(SyncState.source_id == source_id).values(cursor={}))


def _record(kind: Kind, source: DirectorySource, data: dict[str, Any]) -> Record:
    result: Any = "failed" if kind in {Kind.SYNC_FAILED, Kind.SYNC_HELD} else "success"
    return Record(kind=kind, result=result, resource_type="directory", resource_id=source.code, data=data)
