"""A run of one source: read → plan → guard → apply, one at a time, each recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound, TesseraError
from identity.core.facts import current_revision
from identity.core.lease import Held, acquire, release
from identity.core.record import Actor, Record
from identity.core.secrets import new_id
from identity.core.unit import Unit, Units
from identity.directory.factory import open_directory
from identity.directory.models import DirectorySource
from identity.directory.reader import DirectorySettings
from identity.sync import guard, plan
from identity.sync.apply import apply
from identity.sync.known import load_known
from identity.sync.models import SyncRun

LEASE_S = 900
PLAN_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    run_id: UUID
    state: str
    counts: Mapping[str, int]
    error: str | None


def run_source(
    units: Units,
    code: str,
    actor: Actor,
    *,
    dry_run: bool = False,
    approved: bool = False,
    reason: str | None = None,
) -> Outcome:
    """Run one source now. `approved` lets a plan pass that the guard held.

    Raises `NotFound` for an unknown source and `Conflict` while another run of it is under way.
    """
    source, run_id, held = _begin(units, code, actor, dry_run, reason)
    try:
        return _run(units, source, run_id, actor, dry_run=dry_run, approved=approved)
    except TesseraError as error:
        return _end(units, source, run_id, actor, "failed", error=error.public)
    except Exception:
        _end(units, source, run_id, actor, "failed", error="The run met a fault of ours; see the log.")
        raise
    finally:
        with units.open(actor) as unit:
            release(unit.db, held, unit.now)


def run_due(units: Units, now: datetime) -> None:
    """Run every enabled source whose interval has passed; the worker calls this."""
    with units.open(Actor.system("worker:sync"), write=False, now=now) as unit:
        due = [source.code for source in unit.db.execute(select(DirectorySource)).scalars() if _is_due(unit, source)]
    for code in due:
        try:
            run_source(units, code, Actor.system(f"sync:{code}"))
        except Conflict:
            continue


def _is_due(unit: Unit, source: DirectorySource) -> bool:
    if not source.enabled or source.interval_s is None:
        return False
    last = unit.db.execute(
        select(SyncRun.started_at).where(SyncRun.source_id == source.id).order_by(SyncRun.started_at.desc()).limit(1)
    ).scalar_one_or_none()
    return last is None or unit.now - last >= timedelta(seconds=source.interval_s)


def _begin(
    units: Units, code: str, actor: Actor, dry_run: bool, reason: str | None
) -> tuple[DirectorySource, UUID, Held]:
    with units.open(actor, reason=reason) as unit:
        source = unit.db.execute(select(DirectorySource).where(DirectorySource.code == code)).scalar_one_or_none()
        if source is None:
            raise NotFound(f"There is no directory {code!r}.")
        unit.require("run", "sync", code)
        run_id = new_id()
        held = acquire(unit.db, f"sync:{code}", str(run_id), unit.now, LEASE_S)
        unit.db.add(
            SyncRun(
                id=run_id,
                source_id=source.id,
                mode="dry_run" if dry_run else "apply",
                state="running",
                started_by=actor.id,
                started_at=unit.now,
            )
        )
        unit.record(_record(Kind.SYNC_STARTED, source, {"dry_run": dry_run, "run": str(run_id)}))
        unit.db.flush()
        unit.db.expunge(source)
    return source, run_id, held


def _run(
    units: Units, source: DirectorySource, run_id: UUID, actor: Actor, *, dry_run: bool, approved: bool
) -> Outcome:
    entries = open_directory(source.kind, source.settings, source.secret_ref).read()
    names = DirectorySettings.from_json(source.kind, source.settings).attributes
    with units.open(actor, write=False) as unit:
        known = load_known(unit.db, source.id)
    made = plan.make(entries, known, names)
    hold = None if approved else guard.check(made, known)
    if dry_run:
        return _end(units, source, run_id, actor, "planned", made=made, error=hold)
    if hold:
        return _end(units, source, run_id, actor, "held", made=made, error=hold)
    # What a run changes is the system's doing; who started it stands in the run and its records.
    apply(units, source.id, made.changes, Actor.system(f"sync:{source.code}"))
    return _end(units, source, run_id, actor, "applied", made=made)


def _end(
    units: Units,
    source: DirectorySource,
    run_id: UUID,
    actor: Actor,
    state: str,
    *,
    made: plan.SyncPlan | None = None,
    error: str | None = None,
) -> Outcome:
    counts = made.counts if made else {}
    kinds = {"failed": Kind.SYNC_FAILED, "held": Kind.SYNC_HELD}
    with units.open(actor) as unit:
        row = unit.db.get(SyncRun, run_id)
        if row is not None:
            row.state, row.error, row.finished_at, row.counts = state, error, unit.now, counts
            row.entries = made.entries if made else None
            row.plan = [change.to_json() for change in made.changes[:PLAN_MAX]] if made else []
            row.facts_revision = current_revision(unit.db)
        data = {"run": str(run_id), "state": state, "counts": counts, "error": error}
        unit.record(_record(kinds.get(state, Kind.SYNC_FINISHED), source, data))
    return Outcome(run_id, state, counts, error if state in {"failed", "held"} else None)


def _record(kind: Kind, source: DirectorySource, data: dict[str, Any]) -> Record:
    result: Any = "failed" if kind in {Kind.SYNC_FAILED, Kind.SYNC_HELD} else "success"
    return Record(kind=kind, result=result, resource_type="directory", resource_id=source.code, data=data)
