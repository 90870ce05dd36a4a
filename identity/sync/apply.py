"""Apply a stored plan: slices of one Unit each, every slice together with how far it got.

A slice that a constraint refuses is halved until the one change that cannot be made stands alone and is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update

from identity.core.bulk import one_of
from identity.core.errors import Conflict, Invalid, NotFound
from identity.core.lease import Held, renew
from identity.core.record import Actor
from identity.core.secrets import new_id
from identity.core.unit import Unit, Units
from identity.people import service_bulk as bulk
from identity.people import service_leavers
from identity.people.inputs import GroupInput, OrgUnitInput
from identity.people.models import Group, OrgUnit, Position, SourceAccount, User, UserState
from identity.people.service import current_state
from identity.people.service_groups import put_group
from identity.people.service_org import (
    abolish_org_unit,
    add_departments,
    place_codes,
    put_org_unit,
    put_position,
    rebuild_closure,
)
from identity.sync.models import SyncChange, SyncDecision, SyncRun
from identity.sync.plan import JOB, MISSING, PROFILE, is_kept_out

SLICE = 1_000
LOOKUP = 500

Progress = Callable[[str, int], None]


class Applier:
    """Applies one run's changes; knows the ids of everything that they name."""

    def __init__(self, units: Units, run_id: UUID, source_id: UUID, actor: Actor, held: Held, lease_s: int) -> None:
        self._units = units
        self._run_id = run_id
        self._source_id = source_id
        self._actor = actor
        self._held = held
        self._lease_s = lease_s
        self._load()

    def _load(self) -> None:
        with self._units.open(self._actor, write=False) as unit:
            db = unit.db
            self._users: dict[str, bulk.Identity] = {}
            self._deleted: set[UUID] = set()
            mine = Group.source_id == self._source_id
            self._groups: dict[str | None, UUID] = dict(
                db.execute(select(Group.immutable_id, Group.id).where(mine)).all()
            )
            self._units_by_code = dict(db.execute(select(OrgUnit.code, OrgUnit.id)).all())
            self._positions = dict(db.execute(select(Position.code, Position.id)).all())

    def _find(self, unit: Unit, changes: Sequence[Any]) -> None:
        """Know the identities that these changes are about or name as managers."""
        named = {one.immutable_id for one in changes if one.kind.startswith("user_")}
        named |= {one.after["manager"] for one in changes if one.after.get("manager")}
        missing = sorted(named - self._users.keys())
        accounts = select(SourceAccount.immutable_id, User.id, User.person_id, User.login).join(
            User, User.id == SourceAccount.user_id
        )
        for start in range(0, len(missing), LOOKUP):
            chosen = one_of(unit.db.connection(), SourceAccount.immutable_id, missing[start : start + LOOKUP])
            for row in unit.db.execute(accounts.where(SourceAccount.source_id == self._source_id, chosen)):
                self._users[row.immutable_id] = bulk.Identity(row.id, row.person_id, row.login)

    def run(self, progress: Progress | None = None) -> None:
        """Apply what is left of the run; its row says how many changes could not be made.

        Raises `Stale` when the lease went to another process: what this slice did is rolled back.
        """
        while todo := self._next():
            self._apply(todo)
            if progress is not None:
                progress("applied", todo[-1].seq)

    def _next(self) -> list[Any]:
        """The next slice: changes of one kind of thing, never splitting those of one user."""
        with self._units.open(self._actor, write=False) as unit:
            done = unit.db.execute(select(SyncRun.applied_seq).where(SyncRun.id == self._run_id)).scalar_one()
            query = select(SyncChange.__table__).where(SyncChange.run_id == self._run_id, SyncChange.seq > done)
            rows = list(unit.db.execute(query.order_by(SyncChange.seq).limit(SLICE + 1)))
        if not rows:
            return []
        area = _area(rows[0].kind)
        rows = list(takewhile(lambda row: _area(row.kind) == area, rows))
        if len(rows) > SLICE:
            rows = [row for row in rows if row.immutable_id != rows[-1].immutable_id] or rows
        return rows

    def _apply(self, changes: Sequence[Any]) -> None:
        try:
            with self._units.open(self._actor, follow=False) as unit:
                renew(unit.db, self._held, unit.now, self._lease_s)
                self._find(unit, changes)
                self._write(unit, changes)
                unit.db.execute(update(SyncRun).where(SyncRun.id == self._run_id).values(applied_seq=changes[-1].seq))
        except (Conflict, Invalid, NotFound) as error:
            self._load()
            groups = _by_entry(changes)
            if len(groups) == 1:
                self._note(changes, f"{error.public} {error.detail or ''}".strip())
                return
            half = len(groups) // 2
            first = [row for group in groups[:half] for row in group]
            rest = [row for group in groups[half:] for row in group]
            self._apply(first)
            self._apply(rest)

    def _note(self, changes: Sequence[Any], problem: str) -> None:
        with self._units.open(self._actor) as unit:
            renew(unit.db, self._held, unit.now, self._lease_s)
            for one in changes:
                key = SyncChange.run_id == self._run_id, SyncChange.seq == one.seq
                unit.db.execute(update(SyncChange).where(*key).values(error=problem[:500]))
            unit.db.execute(
                update(SyncRun)
                .where(SyncRun.id == self._run_id)
                .values(applied_seq=changes[-1].seq, failed=SyncRun.failed + len(changes))
            )

    def _write(self, unit: Unit, changes: Sequence[Any]) -> None:
        by_kind: dict[str, list[Any]] = {}
        for one in changes:
            by_kind.setdefault(one.kind, []).append(one)
        for kinds, write in _WRITE:
            rows = [one for kind in kinds for one in by_kind.get(kind, ())]
            if rows:
                write(self, unit, sorted(rows, key=lambda row: row.seq))

    def _departments(self, unit: Unit, rows: Sequence[Any]) -> None:
        new: list[Any] = []
        for row in rows:
            if row.kind == "department_add" and row.after["code"] not in self._units_by_code:
                new.append(row)
                continue
            self._add_departments(unit, new)
            new = []
            self._department(unit, row)
        self._add_departments(unit, new)
        unit.db.flush()
        rebuild_closure(unit)

    def _add_departments(self, unit: Unit, rows: Sequence[Any]) -> None:
        if rows:
            new = [(row.immutable_id, row.after["dn"], _department_input(row.after)) for row in rows]
            self._units_by_code |= add_departments(unit, self._source_id, new, self._units_by_code)

    def _department(self, unit: Unit, row: Any) -> None:
        have = unit.db.execute(
            select(OrgUnit).where(OrgUnit.source_id == self._source_id, OrgUnit.immutable_id == row.immutable_id)
        ).scalar_one_or_none()
        if row.after.get("active") is False:
            if have is not None:
                abolish_org_unit(unit, have)
            return
        values = _whole_unit(unit, have) | row.after if have is not None else row.after
        wanted = _department_input(values)
        if have is not None and have.code != wanted.code:
            have.code = wanted.code
            unit.db.flush()
        made = put_org_unit(unit, wanted, self._source_id, row.immutable_id, rebuild=False)
        made.dn = values["dn"]
        self._units_by_code[made.code] = made.id

    def _add_groups(self, unit: Unit, rows: Sequence[Any]) -> None:
        made = [(row.immutable_id, row.after["name"], row.after["title"], row.after["dn"]) for row in rows]
        self._groups.update(bulk.add_groups(unit, self._source_id, made))

    def _change_groups(self, unit: Unit, rows: Sequence[Any]) -> None:
        for row in rows:
            have = unit.db.get_one(Group, self._groups[row.immutable_id])
            wanted = GroupInput(
                name=row.after.get("name", have.name),
                display_name=row.after.get("title", have.display_name),
                source_id=self._source_id,
                immutable_id=row.immutable_id,
                dn=row.after.get("dn", have.dn),
            )
            put_group(unit, wanted)

    def _nest(self, unit: Unit, rows: Sequence[Any]) -> None:
        for row in rows:
            add, remove = self._group_ids(row.after["add"]), self._group_ids(row.after["remove"])
            bulk.set_nesting(unit, self._groups[row.immutable_id], add, remove)

    def _add(self, unit: Unit, rows: Sequence[Any]) -> None:
        # Everybody of this slice is known before anybody's manager is looked up.
        for row in rows:
            self._users[row.immutable_id] = bulk.Identity(new_id(), new_id(), row.after["login"])
        accounts = []
        for row in rows:
            values, who = row.after, self._users[row.immutable_id]
            accounts.append(
                bulk.NewAccount(
                    immutable_id=row.immutable_id,
                    dn=values["dn"],
                    login=who.login,
                    profile={name: values[name] for name in PROFILE},
                    job=bulk.Job(**self._job(unit, {name: values.get(name) for name in JOB})),
                    valid_until=_time(values["valid_until"]),
                    groups=self._group_ids(values["groups"]),
                    seen={name: value for name, value in values.items() if name not in {"groups", "dn"}},
                    user_id=who.user_id,
                    person_id=who.person_id,
                )
            )
        bulk.add_accounts(unit, self._source_id, accounts)

    def _link(self, unit: Unit, rows: Sequence[Any]) -> None:
        for row in rows:
            user = unit.db.get(User, UUID(row.after["user_id"]))
            if user is None:
                raise NotFound("There is no such user.")
            state = current_state(unit, user.id)
            if state is None or state.state == "deleted" or user.id in self._deleted:
                raise Conflict("A deleted identity is not linked to a directory.", code="user_deleted")
            seen = {name: value for name, value in row.after.items() if name not in {"groups", "dn", "user_id"}}
            who = bulk.Identity(user.id, user.person_id, user.login)
            bulk.link_identity(unit, self._source_id, row.immutable_id, who, row.after["dn"], seen)
            self._users[row.immutable_id] = who
            bulk.set_memberships(unit, [(who, self._group_ids(row.after["groups"]), ())])

    def _change_users(self, unit: Unit, rows: Sequence[Any]) -> None:
        """All changes of identities in this slice: each of an identity's facts is written once, whatever many changes
        touch it."""
        fields: dict[str, dict[str, Any]] = {}
        states: dict[str, tuple[dict[str, Any], str]] = {}
        members: list[tuple[bulk.Identity, Sequence[UUID], Sequence[UUID]]] = []
        accounts: dict[str, dict[str, Any]] = {}
        for row in rows:
            key, after = row.immutable_id, row.after
            if row.kind == "user_groups":
                who = self._users[key]
                members.append((who, self._group_ids(after["add"]), self._group_ids(after["remove"])))
                continue
            columns = accounts.setdefault(key, {"last_seen_at": unit.now})
            if row.kind == "user_missing":
                missing = after["status"] == "missing"
                columns |= {"status": after["status"], "missing_since": unit.now if missing else None}
                continue
            if "state" in after:
                states.setdefault(key, ({}, row.reason))[0]["state"] = after["state"]
                missing = row.reason == MISSING
                columns |= {
                    "status": "missing" if missing else "present",
                    "missing_since": unit.now if missing else None,
                }
                continue
            fields.setdefault(key, {}).update(after)
            if "valid_until" in after:
                states.setdefault(key, ({}, row.reason))[0]["valid_until"] = _time(after["valid_until"])
            columns |= {name: after[name] for name in ("dn",) if name in after}
        self._write_fields(unit, fields)
        self._check_enabled(unit, [self._users[key].user_id for key, (new, _) in states.items() if _enables(new)])
        if states:
            bulk.set_states(unit, [(self._users[key], values, why) for key, (values, why) in states.items()])
        if members:
            bulk.set_memberships(unit, members)
        bulk.see_accounts(unit, self._source_id, accounts, fields)

    def _check_enabled(self, unit: Unit, user_ids: Sequence[UUID]) -> None:
        """Raise `Conflict` when a person disabled one of them or it was deleted, also after the plan was made."""
        states = select(UserState.state, UserState.cause).where(UserState.rev_until.is_(None))
        for start in range(0, len(user_ids), LOOKUP):
            chosen = one_of(unit.db.connection(), UserState.user_id, user_ids[start : start + LOOKUP])
            if any(is_kept_out(row.state, row.cause) for row in unit.db.execute(states.where(chosen))):
                raise Conflict("A person disabled this identity meanwhile, or it was deleted.", code="kept_out")

    def _delete(self, unit: Unit, rows: Sequence[Any]) -> None:
        keys = [row.immutable_id for row in rows]
        deleted = service_leavers.delete_identities(unit, self._source_id, keys)
        self._deleted.update(deleted)
        # What a person decided about an entry was about this identity: whoever comes back is a new question.
        mine = (SyncDecision.source_id == self._source_id) & SyncDecision.immutable_id.in_(keys)
        unit.db.execute(delete(SyncDecision).where(mine | SyncDecision.user_id.in_(deleted)))
        for row in rows:
            self._users.pop(row.immutable_id, None)

    def _write_fields(self, unit: Unit, fields: Mapping[str, Mapping[str, Any]]) -> None:
        profiles, jobs, logins = [], [], []
        for key, after in fields.items():
            who = self._users[key]
            if after.keys() & set(PROFILE):
                profiles.append((who, {name: after[name] for name in PROFILE if name in after}))
            if after.keys() & set(JOB):
                jobs.append((who, self._job(unit, {name: after[name] for name in JOB if name in after})))
            if "login" in after:
                logins.append((who, after["login"]))
                self._users[key] = bulk.Identity(who.user_id, who.person_id, after["login"])
        if profiles:
            bulk.set_profiles(unit, profiles)
        if jobs:
            bulk.set_jobs(unit, jobs)
        if logins:
            bulk.set_logins(unit, logins)

    def _job(self, unit: Unit, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a `Job` that these values name; raises `NotFound` for an unknown company."""
        found: dict[str, Any] = {}
        for name, column in (("company", "company_id"), ("department", "org_unit_id")):
            if name in values:
                code = values[name]
                if code is not None and code not in self._units_by_code:
                    raise NotFound(f"There is no organisation unit {code!r}.")
                found[column] = self._units_by_code[code] if code is not None else None
        if "position" in values:
            name = values["position"]
            if name is not None and name not in self._positions:
                self._positions[name] = put_position(unit, name).id
            found["position_id"] = self._positions[name] if name is not None else None
        if "manager" in values:
            manager = self._users.get(values["manager"]) if values["manager"] else None
            found["manager_person_id"] = manager.person_id if manager else None
        if "employee_number" in values:
            found["employee_number"] = values["employee_number"]
        return found

    def _group_ids(self, keys: Sequence[str]) -> list[UUID]:
        return [self._groups[key] for key in keys if key in self._groups]


_WRITE: Sequence[tuple[Sequence[str], Callable[[Applier, Unit, Sequence[Any]], None]]] = (
    (("department_add", "department_update", "department_remove"), Applier._departments),
    (("group_remove", "group_update"), Applier._change_groups),
    (("group_add",), Applier._add_groups),
    (("user_delete",), Applier._delete),
    (("user_add",), Applier._add),
    (("user_link",), Applier._link),
    (
        ("user_disable", "user_enable", "user_missing", "user_update", "user_move", "user_groups"),
        Applier._change_users,
    ),
    (("group_nest",), Applier._nest),
)


def _enables(values: Mapping[str, Any]) -> bool:
    return values.get("state") == "active"


def _area(kind: str) -> str:
    """What may share a slice: departments and groups must be there before people name them."""
    return kind.partition("_")[0] if kind != "group_nest" else kind


def _by_entry(changes: Sequence[Any]) -> list[list[Any]]:
    groups: list[list[Any]] = []
    for one in changes:
        if groups and groups[-1][0].immutable_id == one.immutable_id:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _department_input(values: Mapping[str, Any]) -> OrgUnitInput:
    return OrgUnitInput(
        code=values["code"],
        name=values["name"],
        kind="department",
        parent_code=values["parent"],
        company_code=values["company"],
    )


def _whole_unit(unit: Unit, have: OrgUnit) -> dict[str, Any]:
    """What we hold of a unit, in the plan's words."""
    return {"code": have.code, "name": have.name, "dn": have.dn, **place_codes(unit, have.id)}


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
