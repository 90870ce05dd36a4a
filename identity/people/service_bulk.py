"""People changed by the thousand, for directory sync: the same facts and records as the single services, as plain rows.

The caller has planned the changes from what is known and names identities by id; a broken constraint (a login taken
meanwhile) is the `Conflict` of the Unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Table, select, update

from identity.audit.kinds import Kind
from identity.core.bulk import insert_rows, one_of
from identity.core.db import Fact
from identity.core.record import Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.people.inputs import fold_login
from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    GroupNaming,
    Membership,
    Person,
    PersonProfile,
    SourceAccount,
    User,
    UserAttribute,
    UserState,
)

T = TypeVar("T")

PROFILE = ("name", "family_name", "given_name", "mail", "phone")


@dataclass(frozen=True, slots=True)
class Job:
    """An employment by ids; `company_id` None = none."""

    company_id: UUID | None
    org_unit_id: UUID | None = None
    position_id: UUID | None = None
    manager_person_id: UUID | None = None
    employee_number: str | None = None


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A directory entry that becomes a person with one identity."""

    immutable_id: str
    dn: str
    login: str
    profile: Mapping[str, str | None]
    job: Job
    valid_until: datetime | None
    groups: Sequence[UUID]
    seen: Mapping[str, Any]
    user_id: UUID
    person_id: UUID


def add_accounts(unit: Unit, source_id: UUID, accounts: Sequence[NewAccount]) -> None:
    """Each account's person, profile, identity, state, employment and memberships; one record each."""
    connection, now = unit.db.connection(), unit.now
    insert_rows(connection, Person, [{"id": one.person_id, "created_at": now} for one in accounts])
    empty = {"locale": None, "erased_at": None}
    profiles = [
        {"person_id": one.person_id, **{name: one.profile.get(name) for name in PROFILE}, **empty} for one in accounts
    ]
    insert_rows(connection, PersonProfile, profiles)
    users = [
        {
            "id": one.user_id,
            "person_id": one.person_id,
            "sub": uuid4(),
            "login": one.login,
            "login_key": fold_login(one.login),
            "created_at": now,
        }
        for one in accounts
    ]
    insert_rows(connection, User, users)
    link_accounts(unit, source_id, [(one.immutable_id, one.user_id, one.dn, one.seen) for one in accounts])
    states = [
        {"user_id": one.user_id, "state": "active", "cause": "created", "valid_until": one.valid_until}
        for one in accounts
    ]
    unit.facts.add_rows(UserState, states)
    unit.facts.add_rows(UserAttribute, [_login_row(one.user_id, one.login) for one in accounts])
    unit.facts.add_rows(
        Employment, [_job_row(one.person_id, one.user_id, one.job, new_id()) for one in accounts if one.job.company_id]
    )
    memberships = [{"group_id": group, "user_id": one.user_id} for one in accounts for group in one.groups]
    unit.facts.add_rows(Membership, memberships)
    for one in accounts:
        after = {"login": one.login, "state": "active", "source": str(source_id), "immutable_id": one.immutable_id}
        more = {"job": _job_json(one.job), "groups": [str(group) for group in one.groups]}
        _record(unit, Kind.USER_CREATED, one.user_id, one.person_id, one.login, after={**after, **more})
    unit.facts.touch("user", [one.user_id for one in accounts])


def link_accounts(unit: Unit, source_id: UUID, accounts: Iterable[tuple[str, UUID, str, Mapping[str, Any]]]) -> None:
    """These entries (immutable id, identity, DN, what they say) are accounts of these identities from now on."""
    rows = [
        {
            "id": new_id(),
            "source_id": source_id,
            "immutable_id": key,
            "user_id": user_id,
            "dn": dn,
            "status": "present",
            "disabled": False,
            "last_seen_at": unit.now,
            "missing_since": None,
            "seen": seen,
        }
        for key, user_id, dn, seen in accounts
    ]
    insert_rows(unit.db.connection(), SourceAccount, rows)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a change is about."""

    user_id: UUID
    person_id: UUID
    login: str


def link_identity(
    unit: Unit, source_id: UUID, immutable_id: str, who: Identity, dn: str, seen: Mapping[str, Any]
) -> None:
    """This entry is an account of an identity that was there before: a person decided it, or another source says so."""
    link_accounts(unit, source_id, [(immutable_id, who.user_id, dn, seen)])
    after = {"source": str(source_id), "immutable_id": immutable_id}
    _record(unit, Kind.USER_LINKED, who.user_id, who.person_id, who.login, after=after)


def set_states(unit: Unit, wanted: Sequence[tuple[Identity, Mapping[str, Any], str]]) -> None:
    """Each identity's state has these values (`state`, `valid_until`) from now on, a `state` for this cause; what is
    not named stays."""
    known = _open(unit, UserState, UserState.user_id, [who.user_id for who, _, _ in wanted])
    kinds = {"active": Kind.USER_ENABLED, "disabled": Kind.USER_DISABLED}
    for who, values, cause in wanted:
        row = known[who.user_id]
        before = {"state": row.state, "valid_until": row.valid_until}
        after = {**before, **values}
        # Another end of an account is no reason for its state.
        why = cause if "state" in values else row.cause
        unit.facts.close(UserState, [row.id])
        unit.facts.add_rows(UserState, [{"user_id": who.user_id, "cause": why, **after}])
        kind = kinds[after["state"]] if "state" in values else Kind.USER_PROFILE_CHANGED
        _record(
            unit,
            kind,
            who.user_id,
            who.person_id,
            who.login,
            before=_json(before),
            after={**_json(after), "cause": why},
        )
    unit.facts.touch("user", [who.user_id for who, _, _ in wanted])


def set_profiles(unit: Unit, wanted: Sequence[tuple[Identity, Mapping[str, str | None]]]) -> None:
    """Each identity's person has these names and contacts; what is not named stays."""
    for who, values in wanted:
        unit.db.execute(update(PersonProfile).where(PersonProfile.person_id == who.person_id).values(**values))
        _record(unit, Kind.USER_PROFILE_CHANGED, who.user_id, who.person_id, who.login, data={"fields": sorted(values)})
    unit.facts.touch("user", [who.user_id for who, _ in wanted])


def set_logins(unit: Unit, wanted: Sequence[tuple[Identity, str]]) -> None:
    """Each identity signs in by this login. Two that swap their logins may stand in one call."""
    # All give their login up before any takes another one; no folded login begins with a line feed.
    for who, login in wanted:
        unit.db.execute(update(User).where(User.id == who.user_id).values(login=login, login_key=f"\n{who.user_id}"))
    for who, login in wanted:
        unit.db.execute(update(User).where(User.id == who.user_id).values(login_key=fold_login(login)))
    known = _open(
        unit, UserAttribute, UserAttribute.user_id, [who.user_id for who, _ in wanted], UserAttribute.name == "login"
    )
    unit.facts.close(UserAttribute, [row.id for row in known.values()])
    unit.facts.add_rows(UserAttribute, [_login_row(who.user_id, login) for who, login in wanted])
    for who, login in wanted:
        before, after = {"login": who.login}, {"login": login}
        _record(unit, Kind.USER_RENAMED, who.user_id, who.person_id, who.login, before=before, after=after)
    unit.facts.touch("user", [who.user_id for who, _ in wanted])


def set_jobs(unit: Unit, wanted: Sequence[tuple[Identity, Mapping[str, Any]]]) -> None:
    """Each identity's primary employment has these values (fields of `Job`) from now on; what is not named stays.
    Without a company it ends."""
    ids = [who.user_id for who, _ in wanted]
    known = _open(unit, Employment, Employment.user_id, ids, Employment.is_primary)
    for who, values in wanted:
        row = known.get(who.user_id)
        names = ("company_id", "org_unit_id", "position_id", "manager_person_id", "employee_number")
        before = Job(**{name: getattr(row, name) for name in names}) if row else Job(None)
        after = Job(**{name: values.get(name, getattr(before, name)) for name in names})
        if row:
            unit.facts.close(Employment, [row.id])
        if after.company_id:
            employment = row.employment_id if row else new_id()
            unit.facts.add_rows(Employment, [_job_row(who.person_id, who.user_id, after, employment)])
        old, new = _job_json(before), _job_json(after)
        _record(unit, Kind.EMPLOYMENT_CHANGED, who.user_id, who.person_id, who.login, before=old, after=new)
    unit.facts.touch("user", ids)


def set_memberships(unit: Unit, wanted: Sequence[tuple[Identity, Sequence[UUID], Sequence[UUID]]]) -> None:
    """Each identity joins and leaves these groups (identity, to join, to leave)."""
    known: dict[tuple[UUID, UUID], UUID] = {}
    ids = [who.user_id for who, _, _ in wanted]
    for chunk in _chunks(ids):
        query = select(Membership.group_id, Membership.user_id, Membership.id)
        for row in unit.db.execute(
            query.where(one_of(unit.db.connection(), Membership.user_id, chunk), Membership.rev_until.is_(None))
        ):
            known[row.group_id, row.user_id] = row.id
    names = _names(unit, {group for _, join, leave in wanted for group in (*join, *leave)})
    for who, join, leave in wanted:
        new = [group for group in join if (group, who.user_id) not in known]
        old = [group for group in leave if (group, who.user_id) in known]
        unit.facts.add_rows(Membership, [{"group_id": group, "user_id": who.user_id} for group in new])
        unit.facts.close(Membership, [known[group, who.user_id] for group in old])
        for kind, groups in ((Kind.GROUP_MEMBER_ADDED, new), (Kind.GROUP_MEMBER_REMOVED, old)):
            for group in groups:
                data = {"login": who.login, "group": names[group]}
                _record(unit, kind, who.user_id, who.person_id, who.login, data=data)
    unit.facts.touch("user", ids)


def set_nesting(unit: Unit, group_id: UUID, add: Sequence[UUID], remove: Sequence[UUID]) -> None:
    """These groups are in the group, those no longer. A cycle is kept as the directory has it: readers of group edges
    terminate on cycles and give nobody anything by them."""
    query = select(GroupEdge.child_id, GroupEdge.id).where(GroupEdge.parent_id == group_id)
    known = dict(unit.db.execute(query.where(GroupEdge.rev_until.is_(None))).all())
    new = [child for child in add if child not in known and child != group_id]
    old = [child for child in remove if child in known]
    unit.facts.add_rows(GroupEdge, [{"parent_id": group_id, "child_id": child} for child in new])
    unit.facts.close(GroupEdge, [known[child] for child in old])
    names = _names(unit, [group_id])
    for kind, children in ((Kind.GROUP_NESTED, new), (Kind.GROUP_UNNESTED, old)):
        for child in children:
            unit.record(
                Record(
                    kind=kind,
                    result="success",
                    resource_type="group",
                    resource_id=names[group_id],
                    data={"group": names[group_id]},
                    after={"value": str(child)},
                )
            )
    unit.facts.touch("group", [group_id])


def _names(unit: Unit, groups: Iterable[UUID]) -> dict[UUID, str]:
    """What these groups are called: records speak of them by name, as those of single changes do."""
    found: dict[UUID, str] = {}
    for chunk in _chunks(list(groups)):
        found.update(unit.db.execute(select(Group.id, Group.name).where(Group.id.in_(chunk))).all())
    return found


def see_accounts(
    unit: Unit, source_id: UUID, columns: Mapping[str, Mapping[str, Any]], said: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write down what the source now says, by immutable id: columns of `source_account`, and fields that changed."""
    for chunk in _chunks(list(columns)):
        query = select(SourceAccount.immutable_id, SourceAccount.seen)
        where = SourceAccount.source_id == source_id, SourceAccount.immutable_id.in_(chunk)
        for row in unit.db.execute(query.where(*where)).all():
            seen = {**(row.seen or {}), **said.get(row.immutable_id, {})}
            unit.db.execute(
                update(SourceAccount)
                .where(SourceAccount.source_id == source_id, SourceAccount.immutable_id == row.immutable_id)
                .values(**columns[row.immutable_id], seen=seen)
            )


def add_groups(unit: Unit, source_id: UUID, groups: Sequence[tuple[str, str, str, str]]) -> dict[str, UUID]:
    """New groups of a source (immutable id, name, title, DN); their ids."""
    ids = {key: new_id() for key, _, _, _ in groups}
    rows = [
        {
            "id": ids[key],
            "source_id": source_id,
            "immutable_id": key,
            "name": name,
            "display_name": title,
            "dn": dn,
            "created_at": unit.now,
        }
        for key, name, title, dn in groups
    ]
    insert_rows(unit.db.connection(), Group, rows)
    unit.facts.add_rows(GroupNaming, [{"group_id": ids[key], "name": name} for key, name, _, _ in groups])
    for _, name, title, _ in groups:
        unit.record(
            Record(
                kind=Kind.GROUP_CREATED,
                result="success",
                resource_type="group",
                resource_id=name,
                data={"group": name},
                after={"value": title},
            )
        )
    return ids


def _open(unit: Unit, table: type[Fact], column: Any, ids: Sequence[UUID], *where: Any) -> dict[UUID, Any]:
    """The open facts of these identities, as plain rows by identity."""
    found = {}
    rows: Table = table.__table__  # type: ignore[attr-defined]
    for chunk in _chunks(ids):
        query = select(rows).where(one_of(unit.db.connection(), column, chunk), table.rev_until.is_(None), *where)
        found.update({getattr(row, column.key): row for row in unit.db.execute(query)})
    return found


def _chunks(ids: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


def _login_row(user_id: UUID, login: str) -> dict[str, Any]:
    """Conditions may read the login, so that it is a fact as well."""
    return {"user_id": user_id, "name": "login", "value": login}


def _job_row(person_id: UUID, user_id: UUID, job: Job, employment_id: UUID) -> dict[str, Any]:
    return {
        "employment_id": employment_id,
        "person_id": person_id,
        "user_id": user_id,
        "company_id": job.company_id,
        "org_unit_id": job.org_unit_id,
        "position_id": job.position_id,
        "grade_id": None,
        "manager_person_id": job.manager_person_id,
        "employee_number": job.employee_number,
        "is_primary": True,
    }


def _job_json(job: Job) -> dict[str, Any]:
    names = ("company_id", "org_unit_id", "position_id", "manager_person_id", "employee_number")
    return {name: str(value) for name in names if (value := getattr(job, name)) is not None}


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _record(unit: Unit, kind: Kind, user_id: UUID, person_id: UUID, login: str, **parts: Any) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=user_id,
            person=person_id,
            resource_type="user",
            resource_id=str(user_id),
            **{"data": {"login": login}, **parts},
        )
    )
