"""The policy information point: reads the facts of identities and the rules in force out of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    Membership,
    OrgClosure,
    OrgUnit,
    Position,
    User,
    UserAttribute,
    UserState,
)
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import (
    AssignmentFact,
    EmploymentFact,
    MappingRule,
    MappingWorld,
    UserFacts,
)
from identity.roles.models import Assignment, HeldGain, PolicyInForce
from policies import Amount, Scope


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity with its state, and the facts from which its grants are derived."""

    id: UUID
    sub: str
    person_id: UUID
    login: str
    state: str
    valid_until: datetime | None
    facts: UserFacts


def load_rules(connection: Connection) -> tuple[int, RuleSetInput]:
    """The version in force and its content; version 0 without rules on an empty installation."""
    version = connection.execute(
        select(PolicyInForce.version).where(PolicyInForce.rev_until.is_(None))
    ).scalar_one_or_none()
    return (0, RuleSetInput()) if version is None else (version, rules.load(connection, version))


def load_org(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Each unit's code with the codes of itself and all units above it, nearest first."""
    codes: dict[UUID, str] = {row.id: row.code for row in connection.execute(select(OrgUnit.id, OrgUnit.code))}
    found: dict[str, list[str]] = {code: [] for code in codes.values()}
    query = select(OrgClosure.descendant_id, OrgClosure.ancestor_id).order_by(OrgClosure.depth)
    for descendant, ancestor in connection.execute(query):
        found[codes[descendant]].append(codes[ancestor])
    return {code: tuple(above or [code]) for code, above in found.items()}


def load_world(connection: Connection, content: RuleSetInput) -> MappingWorld:
    """Everything that the builder reads beside the user."""
    by_source: dict[tuple[str, str], list[MappingRule]] = {}
    for rule in rules.mapping_rules(content):
        by_source.setdefault((rule.source_kind, rule.source), []).append(rule)
    return MappingWorld(
        mappings={key: tuple(rows) for key, rows in by_source.items()},
        assignments=_assignments(connection),
        group_parents=load_group_parents(connection),
        held_gains=frozenset(
            (row.person_id, row.role_key, row.cause)
            for row in connection.execute(
                select(HeldGain.person_id, HeldGain.role_key, HeldGain.cause).where(HeldGain.rev_until.is_(None))
            )
        ),
    )


def load_group_parents(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Each group with the groups that it is directly in, by name."""
    names: dict[UUID, str] = {row.id: row.name for row in connection.execute(select(Group.id, Group.name))}
    parents: dict[str, list[str]] = {}
    query = select(GroupEdge.child_id, GroupEdge.parent_id).where(GroupEdge.rev_until.is_(None))
    for child, parent in connection.execute(query):
        parents.setdefault(names[child], []).append(names[parent])
    return {child: tuple(sorted(above)) for child, above in parents.items()}


def _assignments(
    connection: Connection,
) -> Mapping[tuple[str, str], tuple[AssignmentFact, ...]]:
    found: dict[tuple[str, str], list[AssignmentFact]] = {}
    holders: dict[str, dict[UUID, str]] = {
        "group": {row.id: row.name for row in connection.execute(select(Group.id, Group.name))},
        "position": {row.id: row.code for row in connection.execute(select(Position.id, Position.code))},
        "unit": {row.id: row.code for row in connection.execute(select(OrgUnit.id, OrgUnit.code))},
    }
    for row in connection.execute(select(Assignment.__table__).where(Assignment.rev_until.is_(None))):
        holder = holders.get(row.holder_kind, {}).get(row.holder_id, str(row.holder_id))
        limit = Amount(row.limit_value, row.limit_currency) if row.limit_value is not None else None
        found.setdefault((row.holder_kind, holder), []).append(
            AssignmentFact(
                id=str(row.assignment_id),
                role=row.role_key,
                scope=Scope(row.company, row.org_unit, row.business_type),
                limit=limit,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
        )
    return {key: tuple(rows) for key, rows in found.items()}


def load_identities(
    connection: Connection,
    org: Mapping[str, Sequence[str]],
    only: Iterable[UUID] | None = None,
) -> dict[UUID, Identity]:
    """All identities, or only these, with their current facts."""
    ids = None if only is None else list(only)

    def chosen(column: Any) -> Any:
        return column.is_not(None) if ids is None else column.in_(ids)

    groups: dict[UUID, list[str]] = {}
    query = (
        select(Membership.user_id, Group.name)
        .join(Group, Group.id == Membership.group_id)
        .where(Membership.rev_until.is_(None), chosen(Membership.user_id))
        .order_by(Group.name)
    )
    for user_id, name in connection.execute(query):
        groups.setdefault(user_id, []).append(name)
    attributes: dict[UUID, dict[str, Any]] = {}
    for row in connection.execute(
        select(UserAttribute.user_id, UserAttribute.name, UserAttribute.value).where(
            UserAttribute.rev_until.is_(None), chosen(UserAttribute.user_id)
        )
    ):
        attributes.setdefault(row.user_id, {})[row.name] = row.value
    jobs = _employments(connection, org, chosen)
    states = select(
        User.id,
        User.sub,
        User.person_id,
        User.login,
        UserState.state,
        UserState.valid_until,
    ).join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
    return {
        row.id: Identity(
            id=row.id,
            sub=str(row.sub),
            person_id=row.person_id,
            login=row.login,
            state=row.state,
            valid_until=row.valid_until,
            facts=UserFacts(
                id=row.id,
                person_id=row.person_id,
                groups=tuple(groups.get(row.id, ())),
                employments=tuple(jobs.get(row.id, ())),
                attributes=_policy_attributes(row.login, jobs.get(row.id, ()), attributes.get(row.id, {})),
            ),
        )
        for row in connection.execute(states.where(chosen(User.id)).order_by(User.id))
    }


def _employments(
    connection: Connection, org: Mapping[str, Sequence[str]], chosen: Any
) -> dict[UUID, list[EmploymentFact]]:
    units: dict[UUID, str] = {row.id: row.code for row in connection.execute(select(OrgUnit.id, OrgUnit.code))}
    positions: dict[UUID, str] = {row.id: row.code for row in connection.execute(select(Position.id, Position.code))}
    found: dict[UUID, list[EmploymentFact]] = {}
    query = select(Employment.__table__).where(Employment.rev_until.is_(None), chosen(Employment.user_id))
    for row in connection.execute(query):
        unit = units.get(row.org_unit_id)
        company = units[row.company_id]
        found.setdefault(row.user_id, []).append(
            EmploymentFact(
                id=str(row.employment_id),
                company=company,
                org_unit=unit,
                org_units=tuple(org.get(unit or company, (company,))),
                position=positions.get(row.position_id),
                primary=row.is_primary,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
        )
    return found


def _policy_attributes(login: str, jobs: Sequence[EmploymentFact], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that conditions may read: our own facts win over stored attributes of the same name."""
    job = next((one for one in jobs if one.primary), None)
    own = (
        {
            "company": job.company,
            "org_unit": job.org_unit or "",
            "position": job.position or "",
        }
        if job
        else {}
    )
    return {**stored, **own, "login": login}
