"""Apply a plan: each change by the service of its area, in chunks of one Unit each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select, update

from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.people import service as people
from identity.people.inputs import EmploymentInput, GroupInput, NewUser, OrgUnitInput, Profile
from identity.people.models import Group, SourceAccount
from identity.people.service_groups import change_children, change_members, put_group
from identity.people.service_org import put_employment, put_org_unit
from identity.sync.plan import Change

T = TypeVar("T")

CHUNK = 100


def apply(units: Units, source_id: UUID, changes: Sequence[Change], actor: Actor) -> None:
    """Make all changes; a killed run is finished by the next one, whose plan holds what is left."""
    for chunk in batched(changes, CHUNK):
        with units.open(actor) as unit:
            for change in chunk:
                _APPLY[change.kind](unit, source_id, change)


def _department(unit: Unit, source_id: UUID, change: Change) -> None:
    company = change.values["company"]
    wanted = OrgUnitInput(
        code=change.values["code"],
        name=change.values["name"],
        kind="department",
        parent_code=company,
        company_code=company,
    )
    put_org_unit(unit, wanted, source_id, change.immutable_id)


def _add_user(unit: Unit, source_id: UUID, change: Change) -> None:
    values = change.values
    user = people.create_user(unit, NewUser(login=values["login"], profile=Profile(**values["profile"])))
    people.link_source_account(unit, source_id, change.immutable_id, user.id, values["dn"])
    _employ(unit, user.id, values["employment"])


def _update_user(unit: Unit, source_id: UUID, change: Change) -> None:
    user_id = _user_of(unit, source_id, change.immutable_id)
    values = change.values
    people.rename_login(unit, user_id, values["login"])
    people.update_profile(unit, user_id, Profile(**values["profile"]))
    _employ(unit, user_id, values["employment"])
    unit.db.execute(
        update(SourceAccount)
        .where(SourceAccount.source_id == source_id, SourceAccount.immutable_id == change.immutable_id)
        .values(dn=values["dn"], last_seen_at=unit.now)
    )


def _employ(unit: Unit, user_id: UUID, job: Mapping[str, Any]) -> None:
    if job["company"]:
        wanted = EmploymentInput(
            company_code=job["company"],
            org_unit_code=job["department"],
            position=job["position"],
            employee_number=job["employee_number"],
        )
        put_employment(unit, user_id, wanted)


def _disable(unit: Unit, source_id: UUID, change: Change) -> None:
    user_id = _user_of(unit, source_id, change.immutable_id)
    people.set_user_state(unit, user_id, "disabled", cause=change.reason)


def _enable(unit: Unit, source_id: UUID, change: Change) -> None:
    user_id = _user_of(unit, source_id, change.immutable_id)
    people.set_user_state(unit, user_id, "active", cause=change.reason)


def _put_group(unit: Unit, source_id: UUID, change: Change) -> None:
    put_group(unit, GroupInput(source_id=source_id, immutable_id=change.immutable_id, **change.values))


def _members(unit: Unit, source_id: UUID, change: Change) -> None:
    values = change.values
    group_id = _groups_of(unit, source_id, [change.immutable_id])[0]
    change_members(
        unit,
        group_id,
        add=_users_of(unit, source_id, values["add_users"]),
        remove=_users_of(unit, source_id, values["remove_users"]),
    )
    change_children(
        unit,
        group_id,
        add=_groups_of(unit, source_id, values["add_groups"]),
        remove=_groups_of(unit, source_id, values["remove_groups"]),
    )


def _user_of(unit: Unit, source_id: UUID, immutable_id: str) -> UUID:
    return unit.db.execute(
        select(SourceAccount.user_id).where(
            SourceAccount.source_id == source_id, SourceAccount.immutable_id == immutable_id
        )
    ).scalar_one()


def _users_of(unit: Unit, source_id: UUID, ids: Sequence[str]) -> list[UUID]:
    query = select(SourceAccount.user_id).where(SourceAccount.source_id == source_id)
    return [
        user_id
        for chunk in batched(ids, 500)
        for user_id in unit.db.execute(query.where(SourceAccount.immutable_id.in_(chunk))).scalars()
    ]


def _groups_of(unit: Unit, source_id: UUID, ids: Sequence[str]) -> list[UUID]:
    query = select(Group.id).where(Group.source_id == source_id)
    return [
        group_id
        for chunk in batched(ids, 500)
        for group_id in unit.db.execute(query.where(Group.immutable_id.in_(chunk))).scalars()
    ]


def batched(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _leave(_unit: Unit, _source_id: UUID, _change: Change) -> None:
    """A conflict waits for a person."""


_APPLY = {
    "department_put": _department,
    "user_add": _add_user,
    "user_update": _update_user,
    "user_disable": _disable,
    "user_enable": _enable,
    "group_put": _put_group,
    "group_members": _members,
    "conflict": _leave,
}
