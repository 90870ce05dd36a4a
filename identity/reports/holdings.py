"""Rows about who holds what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.past import held_at, way
from identity.people.models import Group, OrgUnit, PersonProfile, Position, User
from identity.roles.models import Assignment, HeldGain, Mitigation
from policies import Amount

if TYPE_CHECKING:
    from identity.reports.catalogue import Source


def people_roles(source: Source) -> Iterator[tuple[Any, ...]]:
    """One row for each grant of each active user, inherited roles too, with the steps that led to it."""
    names = person_names(source.connection)
    for user in sorted(source.snapshot.users.values(), key=lambda one: one.login):
        if not source.snapshot.is_active(user.id, source.until):
            continue
        for grant, steps in held_at(source.snapshot, user, source.until):
            application, _, role = grant.role.partition(":")
            yield (
                *(names.get(user.person_id, ""), user.login, application, role, *grant.scope),
                *(grant.limit, grant.valid_from, grant.valid_until, way(steps, grant.role)),
            )


def direct_grants(source: Source) -> Iterator[tuple[Any, ...]]:
    """Assignments that were made by hand, in force or to come."""
    connection = source.connection
    holders: dict[str, dict[UUID, str]] = {
        "user": _pairs(connection, User.id, User.login),
        "group": _pairs(connection, Group.id, Group.name),
        "position": _pairs(connection, Position.id, Position.code),
        "unit": _pairs(connection, OrgUnit.id, OrgUnit.code),
    }
    rows = connection.execute(
        select(Assignment.__table__).where(Assignment.rev_until.is_(None)).order_by(Assignment.role_key)
    )
    for row in rows:
        if row.valid_until is not None and row.valid_until <= source.until:
            continue
        limit = Amount(row.limit_value, row.limit_currency) if row.limit_value is not None else None
        yield (
            *(row.holder_kind, holders[row.holder_kind].get(row.holder_id, str(row.holder_id)), row.role_key),
            *(row.company, row.org_unit, row.business_type, limit, row.valid_from, row.valid_until),
            *(row.granted_by, row.reason),
        )


def duties(source: Source) -> Iterator[tuple[Any, ...]]:
    """Held gains, then mitigations."""
    names = person_names(source.connection)
    held = source.connection.execute(
        select(HeldGain.__table__).where(HeldGain.rev_until.is_(None)).order_by(HeldGain.rule_id)
    )
    for row in held:
        yield ("held", row.rule_id, names.get(row.person_id, ""), row.role_key, row.cause, None, None, row.valid_until)
    mitigations = source.connection.execute(
        select(Mitigation.__table__).where(Mitigation.rev_until.is_(None)).order_by(Mitigation.rule_id)
    )
    for row in mitigations:
        if row.valid_until is None or row.valid_until > source.until:
            yield (
                *("mitigation", row.rule_id, names.get(row.person_id, ""), None, row.reason),
                *(names.get(row.owner_person_id, ""), row.control, row.valid_until),
            )


def person_names(connection: Connection) -> dict[UUID, str]:
    """The name of every person."""
    return _pairs(connection, PersonProfile.person_id, PersonProfile.name)


def _pairs(connection: Connection, key: Any, value: Any) -> dict[UUID, str]:
    return {row[0]: row[1] for row in connection.execute(select(key, value))}
