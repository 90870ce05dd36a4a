"""What a person does about runs: approve or reject a held plan, undo an applied one, resume a source, decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, Invalid, NotFound, Refused
from identity.core.record import Actor, Record
from identity.core.unit import Unit, Units
from identity.directory.models import DirectorySource
from identity.people.models import User
from identity.people.service import current_state
from identity.roles.service_administrators import is_administrator
from identity.sync.known import load_known
from identity.sync.models import SyncChange, SyncDecision, SyncRun
from identity.sync.only import Only
from identity.sync.plan import UNDONE, Change, KnownDirectory
from identity.sync.run import apply_stored, run_source, supersede_cursor
from identity.sync.work import Outcome, find_source, guarded, reopened, state_of, store, work_on

APPROVABLE = timedelta(hours=24)
_UNDONE: Mapping[str, str] = {
    "user_add": "user_disable",
    "user_disable": "user_enable",
    "user_enable": "user_disable",
    "user_update": "user_update",
    "user_move": "user_move",
    "user_groups": "user_groups",
    "group_update": "group_update",
    "group_remove": "group_update",
    "group_nest": "group_nest",
    "department_update": "department_update",
    "department_remove": "department_update",
    "department_add": "department_remove",
}


def approve(units: Units, run_id: UUID, actor: Actor, reason: str, reference: str | None = None) -> Outcome:
    """Apply exactly the plan that was held. Raises `Conflict` when it is no longer held, is older than a day, or the
    facts that it was made from have moved on by another run of its source."""
    with reopened(units, run_id, actor, reason, "held") as work:
        with units.open(actor, reason=reason, reference=reference) as unit:
            run = unit.db.get_one(SyncRun, run_id)
            if unit.now - run.started_at > APPROVABLE:
                raise Conflict("This plan is older than a day. Make a new one.", code="plan_old")
            later = select(SyncRun.id).where(
                SyncRun.source_id == run.source_id,
                SyncRun.started_at > run.started_at,
                SyncRun.state.in_(("applied", "applying")),
                SyncRun.mode != "dry_run",
            )
            if unit.db.execute(later).first():
                raise Conflict("Another run has changed what this plan was made from.", code="plan_stale")
            run.state, run.approved_by, run.error = "applying", actor.id, None
            unit.record(_record(Kind.SYNC_APPROVED, work.source, {"run": str(run_id)}))
            counts = dict(run.counts)
        return guarded(work, lambda: apply_stored(work, counts))


def reject(units: Units, run_id: UUID, actor: Actor, reason: str, reference: str | None = None) -> None:
    """The held plan will not be applied; raises `Conflict` when it is no longer held."""
    with (
        reopened(units, run_id, actor, reason, "held") as work,
        units.open(actor, reason=reason, reference=reference) as unit,
    ):
        run = unit.db.get_one(SyncRun, run_id)
        run.state = "rejected"
        unit.record(_record(Kind.SYNC_REJECTED, work.source, {"run": str(run_id)}))


def undo(units: Units, run_id: UUID, actor: Actor, reason: str, reference: str | None = None) -> Outcome:
    """Take an applied run back, in a run of its own, and pause the source: its directory would only say it again.

    What has changed since is left as it is and noted; people whom the run made are disabled, not deleted.
    """
    with units.open(actor, write=False) as unit:
        run = unit.db.get(SyncRun, run_id)
        if run is None:
            raise NotFound("There is no such run.")
        _check_undoable(run)
        code = unit.db.get_one(DirectorySource, run.source_id).code
    with work_on(units, code, actor, "undo", reason, None, undo_of=run_id) as work:
        return guarded(work, lambda: _undo(work, run_id, actor, reason, reference))


def _undo(work: Any, run_id: UUID, actor: Actor, reason: str, reference: str | None) -> Outcome:
    with work.units.open(actor, write=False) as unit:
        run = unit.db.get_one(SyncRun, run_id)
        _check_undoable(run)
        query = select(SyncChange.__table__).where(SyncChange.run_id == run_id, SyncChange.error.is_(None))
        done = list(unit.db.execute(query.order_by(SyncChange.seq.desc())))
        if not done and run.changes:
            raise Conflict("The plan of this run has been forgotten.", code="plan_forgotten")
        known = load_known(unit.db.connection(), work.source.id)
    changes = inverse(done, known)
    store(work, changes)
    with work.units.open(actor, reason=reason, reference=reference) as unit:
        row = unit.db.get_one(SyncRun, work.run_id)
        row.state, row.changes = "applying", len(changes)
        row.counts = {kind: sum(one.kind == kind for one in changes) for kind in {one.kind for one in changes}}
        unit.db.get_one(SyncRun, run_id).state = "undone"
        state = state_of(unit, work.source.id)
        state.paused, state.cursor = f"run undone: {reason}"[:200], {}
        unit.record(_record(Kind.SYNC_UNDONE, work.source, {"run": str(run_id), "by": str(work.run_id)}))
        counts = dict(row.counts)
    return apply_stored(work, counts)


def _check_undoable(run: SyncRun) -> None:
    if run.state != "applied" or run.mode != "apply":
        raise Conflict(f"This run is {run.state}; only an applied one can be undone.", code="run_state")


def inverse(done: Sequence[Any], known: KnownDirectory) -> tuple[Change, ...]:
    """The changes that take these back, last first; one whose field was changed since becomes a conflict."""
    found = []
    for one in done:
        kind = _UNDONE.get(one.kind)
        if kind is None:
            if one.kind != "conflict":
                found.append(Change("conflict", one.immutable_id, one.title, f"{one.kind} cannot be undone"))
            continue
        before, after = dict(one.after), dict(one.before)
        user = known.users.get(one.immutable_id)
        if one.kind == "user_add":
            joined = {"add": one.after["groups"], "remove": []}
            left = {"add": [], "remove": one.after["groups"]}
            found.append(Change("user_groups", one.immutable_id, one.title, UNDONE, joined, left))
            before, after = {"state": "active"}, {"state": "disabled"}
        elif one.kind == "department_add":
            before, after = {"active": True}, {"active": False}
        elif one.kind in {"user_update", "user_move"} and user is not None:
            moved = sorted(name for name, value in before.items() if user.values.get(name) != value)
            if moved:
                why = "changed since: " + ", ".join(moved)
                found.append(Change("conflict", one.immutable_id, one.title, why))
            after = {name: value for name, value in after.items() if name not in moved}
            before = {name: before[name] for name in after}
        if after:
            found.append(Change(kind, one.immutable_id, one.title, UNDONE, before, after))  # type: ignore[arg-type]
    order = ("department", "group", "conflict", "user", "nest")
    return tuple(sorted(found, key=lambda change: order.index(_place(change.kind))))


def _place(kind: str) -> str:
    return "nest" if kind == "group_nest" else kind.partition("_")[0]


def retry(units: Units, run_id: UUID, actor: Actor) -> Outcome:
    """Read everything and plan again what could not be done in this run; raises `NotFound`, and `Conflict` where
    nothing failed."""
    with units.open(actor, write=False) as unit:
        run = unit.db.get(SyncRun, run_id)
        if run is None:
            raise NotFound("There is no such run.")
        code = unit.db.get_one(DirectorySource, run.source_id).code
        query = select(SyncChange.immutable_id).where(SyncChange.run_id == run_id, SyncChange.error.is_not(None))
        failed = frozenset(unit.db.execute(query).scalars())
    if not failed:
        raise Conflict("Nothing of this run failed.", code="run_state")
    return run_source(units, code, actor, only=Only(entries=failed))


def resume(units: Units, code: str, actor: Actor, reason: str, reference: str | None = None) -> None:
    """The source runs by itself again."""
    with units.open(actor, reason=reason, reference=reference) as unit:
        source = find_source(unit, code)
        unit.require("run", "sync", code)
        state_of(unit, source.id).paused = None
        unit.record(_record(Kind.SYNC_RESUMED, source, {}))


def decide(unit: Unit, code: str, immutable_id: str, action: str, login: str | None, reason: str) -> None:
    """What the next run does with an entry in conflict: `link` it to the identity of this login, make a `new` one, or
    `ignore` it. Raises `Invalid` for another action, `NotFound` for an unknown login, `Conflict` for a deleted
    identity, `Refused` for administrators."""
    unit.require("run", "sync", code)
    source = find_source(unit, code)
    user_id = None
    if action not in {"link", "new", "ignore"}:
        raise Invalid("There is no such decision.", code="decision")
    if action == "link":
        user_id = unit.db.execute(select(User.id).where(User.login == login)).scalar_one_or_none()
        if user_id is None:
            raise NotFound(f"There is no user {login!r}.")
        state = current_state(unit, user_id)
        if state is None or state.state == "deleted":
            raise Conflict("A deleted identity is not linked to a directory.", code="user_deleted")
        if is_administrator(unit, user_id):
            raise Refused(
                "An administrator is not linked to a directory, whose password would then open the console.",
                code="target_rank",
            )
    row = unit.db.get(SyncDecision, (source.id, immutable_id))
    if row is None:
        row = SyncDecision(source_id=source.id, immutable_id=immutable_id)
        unit.db.add(row)
    row.action, row.user_id, row.reason = action, user_id, reason
    row.decided_by, row.decided_at = unit.actor.id, unit.now
    supersede_cursor(unit, source.id)
    unit.record(
        _record(Kind.SYNC_DECIDED, source, {"entry": immutable_id, "action": action, "user": str(user_id or "")})
    )


def _record(kind: Kind, source: DirectorySource, data: dict[str, Any]) -> Record:
    return Record(kind=kind, result="success", resource_type="directory", resource_id=source.code, data=data)
