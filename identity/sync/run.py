"""A run of one source: read → plan → guard → apply, one at a time across nodes, each recorded, each stage kept.

A run that was killed while it applied is finished from where it stopped before anything new is read: its plan has
passed the guard as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from sqlalchemy import delete, select, update

from identity.core.cycles import seldom
from identity.core.lease import renew
from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.directory.factory import open_directory
from identity.directory.reader import Cursor, Reading
from identity.directory.settings import DirectorySettings
from identity.directory.transform import Transformer
from identity.sync import guard
from identity.sync.apply import Applier, Progress
from identity.sync.effects import Effects, effects_of
from identity.sync.known import count_accounts, load_known, scope_of
from identity.sync.models import SyncChange, SyncRun, SyncState
from identity.sync.only import Only, known_as, read_only, with_left
from identity.sync.plan import SyncPlan
from identity.sync.plan_users import make
from identity.sync.work import LEASE_S, Outcome, Work, cursor_of, end_run, guarded, store, work_on


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read a moment ago of what changed since `cursor`; it holds as long as the source is still there."""

    cursor: Cursor
    reading: Reading


def run_source(
    units: Units,
    code: str,
    actor: Actor,
    *,
    mode: str = "apply",
    full: bool | None = None,
    only: Only | None = None,
    reason: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run one source now. Mode `apply` applies the plan, `dry_run` only shows it, `check` compares everything and tells
    the drift. `full`: everything is read, though the directory could say what changed; False = what changed, though
    everything is due; None = as is due. `only` limits the run. `progress` is called with each stage and, while
    applying, with how far it is.

    Raises `NotFound` for an unknown source and `Conflict` while another run of it is under way.
    """
    with work_on(units, code, actor, mode, reason, progress) as work:
        return guarded(work, lambda: _run(work, mode, full=True if mode == "check" else full, only=only))


def run_on(
    units: Units,
    code: str,
    actor: Actor,
    seen: Seen | None,
    *,
    full: bool | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """As `run_source`; what was `seen` from where the run reads on is not read again."""
    with work_on(units, code, actor, "apply", None, progress) as work:
        return guarded(work, lambda: _run(work, "apply", full=full, seen=seen))


@seldom()
def _run(work: Work, mode: str, *, full: bool | None, only: Only | None = None, seen: Seen | None = None) -> Outcome:
    _finish_killed(work)
    work.partial = only is not None
    transformer = Transformer(DirectorySettings.load(work.source.kind, work.source.settings))
    settings = transformer.settings
    with work.stage("read"):
        with work.units.open(work.actor, write=False) as unit:
            cursor = None if full or only else cursor_of(unit, work.source, settings, delta=full is False)
            known = known_as(unit.db.connection(), work.source.id, only) if only else None
        if seen is not None and seen.cursor == cursor:
            reading = seen.reading
        else:
            directory = open_directory(work.source.kind, work.source.settings, work.source.secret_ref)
            found = read_only(directory, settings, known) if only else directory.read(cursor)
            reading = transformer.apply(found)
    with work.stage("plan"):
        plan, hold, effects = _plan(work, settings, reading, known or only)
    shown_only = mode == "dry_run" or (mode == "check" and not (work.source.check_repairs or not plan.changes))
    state, counts = "planned" if shown_only else "held" if hold else "applying", plan.counts
    digest = digest_of(plan)
    if state == "held" and _is_held_already(work, digest):
        return end_run(work, "superseded", counts, "The same plan is held already.")
    with work.stage("store"):
        store(work, plan.changes)
    _planned(work, reading, plan, effects, state, "\n".join(hold) or None, digest, keep_cursor=only is None)
    # A hundred thousand entries and changes are not kept while the stored plan is applied.
    del reading, plan
    if state != "applying":
        return end_run(work, state, counts, "\n".join(hold) or None)
    return apply_stored(work, counts)


def _plan(
    work: Work, settings: DirectorySettings, reading: Reading, only: Only | None
) -> tuple[SyncPlan, list[str], Effects]:
    with work.units.open(work.actor, write=False) as unit:
        connection = unit.db.connection()
        scope = scope_of(reading, settings)
        if only is not None and scope is not None:
            # Of the groups only the members that were read count.
            reading, scope = with_left(connection, work.source.id, only, reading), replace(scope, groups=frozenset())
        known = load_known(connection, work.source.id, scope)
        guard.check_reading(reading, known)
        plan = make(reading, known, settings, unit.now)
        if only is not None:
            plan = SyncPlan(tuple(one for one in plan.changes if only.has(one)), plan.entries)
        effects = effects_of(connection, plan, known)
        if not reading.complete and guard.asks_for_totals(plan, settings):
            known = replace(known, accounts=count_accounts(connection, work.source.id))
    return plan, guard.check(plan, known, settings), effects


def apply_stored(work: Work, counts: Mapping[str, int]) -> Outcome:
    """Apply the run's stored plan from where it is; the run ends as applied."""
    with work.stage("apply"):
        applier = Applier(work.units, work.run_id, work.source.id, work.system, work.held, LEASE_S)
        applier.run(work.progress)
    work.units.follow()
    return end_run(work, "applied", counts, None)


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


def digest_of(plan: SyncPlan) -> str:
    """Two plans with the same changes have the same one."""
    found = hashlib.sha256()
    for one in plan.changes:
        parts = one.kind, one.immutable_id, one.reason, one.before, one.after
        found.update(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))
    return found.hexdigest()


def _is_held_already(work: Work, digest: str) -> bool:
    with work.units.open(work.actor, write=False) as unit:
        query = select(SyncRun.id).where(SyncRun.source_id == work.source.id, SyncRun.state == "held")
        return unit.db.execute(query.where(SyncRun.digest == digest)).first() is not None


def _planned(
    work: Work,
    reading: Reading,
    plan: SyncPlan,
    effects: Effects,
    state: str,
    error: str | None,
    digest: str,
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
        run.effects, run.error, run.digest = effects.to_json(), error, digest
        # Conflicts and failures are met again only when everything is read again.
        run.cursor = dict(reading.cursor) if keep_cursor else {}


def _supersede(unit: Unit, work: Work) -> None:
    query = select(SyncRun).where(SyncRun.source_id == work.source.id, SyncRun.state == "held")
    for run in unit.db.execute(query).scalars():
        run.state = "superseded"
        unit.db.execute(delete(SyncChange).where(SyncChange.run_id == run.id))


def forget_plans(units: Units, now: datetime, days: int = 90) -> None:
    """Plans hold names and addresses; after this many days, when no run is undone any more, they go."""
    with units.open(Actor.system("worker:sync"), now=now) as unit:
        old = select(SyncRun.id).where(SyncRun.started_at < now - timedelta(days=days))
        unit.db.execute(delete(SyncChange).where(SyncChange.run_id.in_(old.scalar_subquery())))


def supersede_cursor(unit: Unit, source_id: UUID) -> None:
    """The next run reads everything."""
    unit.db.execute(update(SyncState).where(SyncState.source_id == source_id).values(cursor={}))
