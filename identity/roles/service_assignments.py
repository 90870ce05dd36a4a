"""Assignments: who is given which role, by whom, within which bounds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from math import ceil
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound, Refused
from identity.core.record import Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.people.inputs import NewUser, Profile
from identity.people.models import Group, OrgUnit, Position, User, UserState
from identity.people.service import create_user, find_user_by_login
from identity.roles.inputs import AssignmentInput
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import Assignment, Role
from policies import Amount


def assign(unit: Unit, wanted: AssignmentInput, *, managed_by: str = "console") -> Assignment:
    """The holder has this role in this scope from the commit on.

    Raises `Refused` unless an AdminGrant of the actor covers role, holder and bounds, for a grant to oneself or to a
    group, position or unit that one belongs to, and for administration roles; `NotFound` for an unknown role or
    holder.
    """
    holder = _holder_name(unit, wanted.holder_kind, wanted.holder_id)
    days = None
    if wanted.valid_until is not None:
        days = ceil((wanted.valid_until - max(wanted.valid_from or unit.now, unit.now)) / timedelta(days=1))
    limit = Amount.parse(wanted.limit) if wanted.limit else None
    scope = {name: getattr(wanted, name) for name in ("company", "org_unit", "business_type")}
    properties = {"holder_kind": wanted.holder_kind, "holder": holder, "limit": limit, "days": days, **scope}
    unit.require("assign", "assignment", wanted.role, properties)
    if wanted.role.startswith(f"{CONSOLE_APPLICATION}:"):
        raise Refused("Administration roles are not assigned here.", code="administration_role")
    return add_assignment(unit, wanted, managed_by)


def revoke(unit: Unit, assignment_id: UUID) -> None:
    """The assignment ends with the commit; raises `NotFound`, and `Refused` like `assign`."""
    row = unit.facts.current(unit.db, Assignment, {"assignment_id": assignment_id})
    if row is None:
        raise NotFound("There is no such assignment.")
    properties = {
        "holder_kind": row.holder_kind,
        "holder": _holder_name(unit, row.holder_kind, row.holder_id),
        "company": row.company,
        "org_unit": row.org_unit,
        "business_type": row.business_type,
        "limit": _limit(row),
        "days": 0,
    }
    unit.require("revoke", "assignment", row.role_key, properties)
    if row.role_key.startswith(f"{CONSOLE_APPLICATION}:"):
        raise Refused("Administration roles are not revoked here.", code="administration_role")
    end_assignment(unit, row)


def end_assignment(unit: Unit, row: Assignment) -> None:
    """For callers that have decided already: the assignment ends with the commit."""
    unit.facts.end(row)
    _touch(unit, row)
    _record(unit, Kind.ASSIGNMENT_REVOKED, row)


def _touch(unit: Unit, row: Assignment) -> None:
    """What is assigned to a user concerns that user alone."""
    if row.holder_kind == "user":
        unit.facts.touch("user", [row.holder_id])
    else:
        unit.facts.touch("assignment")


def _holder_name(unit: Unit, kind: str, holder_id: UUID) -> str:
    """The holder as facts name it: a user's id, a group's name, a position's or unit's code; raises `NotFound`."""
    tables: dict[str, Any] = {"user": User, "group": Group, "position": Position, "unit": OrgUnit}
    row = unit.db.get(tables[kind], holder_id)
    if row is None:
        raise NotFound("There is nobody to assign this to.")
    return str(row.id) if kind == "user" else str(row.name if kind == "group" else row.code)


def bootstrap_administrator(unit: Unit, login: str, name: str, roles: Iterable[str]) -> User | None:
    """Make a local identity with console roles, which has no password yet; None when the login is there already.

    Only while nobody holds the role yet, so that the command line or a configuration file can begin an installation and
    never widen one. Raises `Conflict` otherwise.
    """
    if find_user_by_login(unit, login) is not None:
        return None
    user = create_user(unit, NewUser(login=login, profile=Profile(name=name)))
    for role in roles:
        key = f"{CONSOLE_APPLICATION}:{role}"
        ensure_console_role(unit, key)
        if unit.db.execute(
            select(Assignment.id).where(Assignment.role_key == key, Assignment.rev_until.is_(None))
        ).first():
            raise Conflict(f"Somebody is {role} already; a second administrator is assigned in the console.")
        add_assignment(unit, AssignmentInput(holder_kind="user", holder_id=user.id, role=key), "bootstrap")
    return user


def holds_administration_role(unit: Unit, user_id: UUID, role: str) -> bool:
    """Whether the identity itself was assigned this console role."""
    found = select(Assignment.id).where(
        Assignment.role_key == f"{CONSOLE_APPLICATION}:{role}",
        Assignment.holder_id == user_id,
        Assignment.rev_until.is_(None),
    )
    return unit.db.execute(found).first() is not None


def check_administrators_stay(unit: Unit, user_id: UUID) -> None:
    """Raise `Conflict` when nobody else could act in an administration role that this user holds."""
    holders = (
        select(Assignment.role_key, Assignment.holder_id)
        .join(UserState, (UserState.user_id == Assignment.holder_id) & UserState.rev_until.is_(None))
        .where(
            Assignment.holder_kind == "user",
            Assignment.role_key.startswith(f"{CONSOLE_APPLICATION}:", autoescape=True),
            Assignment.rev_until.is_(None),
            UserState.state == "active",
        )
    )
    held: dict[str, set[UUID]] = {}
    for role, holder in unit.db.execute(holders):
        held.setdefault(role, set()).add(holder)
    if any(people == {user_id} for people in held.values()):
        raise Conflict("This is the last administrator of a role.", code="last_administrator")


def ensure_console_role(unit: Unit, key: str) -> None:
    """The role is in the catalogue."""
    if unit.db.execute(select(Role.id).where(Role.key == key)).first() is None:
        name = key.partition(":")[2]
        unit.db.add(Role(key=key, name=name, title=name, built_in=True, managed_by="built-in", created_at=unit.now))
        unit.db.flush()


def add_assignment(unit: Unit, wanted: AssignmentInput, managed_by: str) -> Assignment:
    """For callers that have decided already: the holder has the role from the commit on."""
    if unit.db.execute(select(Role.id).where(Role.key == wanted.role)).first() is None:
        raise NotFound(f"There is no role {wanted.role!r}.")
    limit = Amount.parse(wanted.limit) if wanted.limit else None
    row = Assignment(
        assignment_id=new_id(),
        holder_kind=wanted.holder_kind,
        holder_id=wanted.holder_id,
        role_key=wanted.role,
        company=wanted.company,
        org_unit=wanted.org_unit,
        business_type=wanted.business_type,
        limit_value=limit.value if limit else None,
        limit_currency=limit.currency if limit else None,
        valid_from=wanted.valid_from,
        valid_until=wanted.valid_until,
        granted_by=unit.actor.id,
        reason=unit.reason or "",
        managed_by=managed_by,
    )
    unit.facts.add(row)
    _touch(unit, row)
    _record(unit, Kind.ASSIGNMENT_ADDED, row)
    return row


def _limit(row: Assignment) -> Amount | None:
    return Amount(row.limit_value, row.limit_currency) if row.limit_value is not None and row.limit_currency else None


def _record(unit: Unit, kind: Kind, row: Assignment) -> None:
    limit = _limit(row)
    holder = unit.db.get(User, row.holder_id) if row.holder_kind == "user" else None
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=holder.id if holder else None,
            person=holder.person_id if holder else None,
            application=row.role_key.partition(":")[0],
            resource_type="role",
            resource_id=row.role_key,
            data={
                "assignment": str(row.assignment_id),
                "role": row.role_key,
                "holder_kind": row.holder_kind,
                "holder": str(row.holder_id),
                "company": row.company,
                "org_unit": row.org_unit,
                "business_type": row.business_type,
                "limit": str(limit) if limit else None,
                "valid_from": row.valid_from,
                "valid_until": row.valid_until,
            },
        )
    )
