"""The policy information point: reads the facts of identities and the rules in force out of the tables.

Everything can be read as it was known at an earlier facts revision, from which a recorded decision is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from identity.access.overlay import Overlay
from identity.core.bulk import one_of
from identity.core.facts import known
from identity.people.models import (
    Employment,
    GroupEdge,
    GroupNaming,
    Membership,
    OrgPlacement,
    OrgUnit,
    Position,
    User,
    UserAttribute,
    UserState,
)
from identity.roles import rules
from identity.roles.delegation import Bounds
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import (
    AssignmentFact,
    EmploymentFact,
    MappingRule,
    MappingWorld,
    UserFacts,
)
from identity.roles.models import AdminGrant, Assignment, HeldGain, PolicyInForce
from policies import Amount, Scope

Holder = tuple[str, str]


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


def load_rules(connection: Connection, revision: int | None = None) -> tuple[int, RuleSetInput]:
    """The version in force and its content; version 0 without rules on an empty installation."""
    version = connection.execute(
        select(PolicyInForce.version).where(known(PolicyInForce, revision))
    ).scalar_one_or_none()
    return (0, RuleSetInput()) if version is None else (version, rules.load(connection, version))


def load_org(connection: Connection, revision: int | None = None) -> dict[str, tuple[str, ...]]:
    """Each unit's code with the codes of itself and all units above it, nearest first."""
    codes = _codes(connection, OrgUnit)
    query = select(OrgPlacement.org_unit_id, OrgPlacement.parent_id).where(known(OrgPlacement, revision))
    parents: dict[UUID, UUID | None] = {row.org_unit_id: row.parent_id for row in connection.execute(query)}
    found = {}
    for unit_id, code in codes.items():
        chain: list[UUID] = []
        node: UUID | None = unit_id
        while node is not None and node not in chain:
            chain.append(node)
            node = parents.get(node)
        found[code] = tuple(codes[one] for one in chain)
    return found


def load_world(
    connection: Connection, content: RuleSetInput, org: Mapping[str, Sequence[str]], revision: int | None = None
) -> MappingWorld:
    """Everything that the builder reads beside the user."""
    by_source: dict[Holder, list[MappingRule]] = {}
    for rule in rules.mapping_rules(content):
        by_source.setdefault((rule.source_kind, rule.source), []).append(rule)
    return MappingWorld(
        mappings={key: tuple(rows) for key, rows in by_source.items()},
        assignments=Overlay(load_assignments(connection, revision)),
        group_parents=load_group_parents(connection, revision),
        held_gains=Overlay(load_held_gains(connection, revision)),
        org=org,
    )


def load_held_gains(
    connection: Connection, revision: int | None = None, persons: Iterable[UUID] | None = None
) -> dict[UUID, frozenset[tuple[str, str]]]:
    """What is held back of whom; with `persons` an entry for each of these and no other."""
    query = select(HeldGain.person_id, HeldGain.role_key, HeldGain.cause).where(known(HeldGain, revision))
    found: dict[UUID, set[tuple[str, str]]] = {}
    if persons is not None:
        found = {one: set() for one in persons}
        query = query.where(HeldGain.person_id.in_(found))
    for person_id, role, cause in connection.execute(query):
        found.setdefault(person_id, set()).add((role, cause))
    return {person_id: frozenset(gains) for person_id, gains in found.items()}


def load_group_parents(connection: Connection, revision: int | None = None) -> dict[str, tuple[str, ...]]:
    """Each group with the groups that it is directly in, by name."""
    names = load_group_names(connection, revision)
    parents: dict[str, list[str]] = {}
    query = select(GroupEdge.child_id, GroupEdge.parent_id).where(known(GroupEdge, revision))
    for child, parent in connection.execute(query):
        parents.setdefault(names[child], []).append(names[parent])
    return {child: tuple(sorted(above)) for child, above in parents.items()}


def load_group_names(
    connection: Connection, revision: int | None = None, only: Iterable[UUID] | None = None
) -> dict[UUID, str]:
    """How the groups are called, all or only these."""
    query = select(GroupNaming.group_id, GroupNaming.name).where(known(GroupNaming, revision))
    if only is not None:
        query = query.where(one_of(connection, GroupNaming.group_id, list(only)))
    return dict(connection.execute(query).all())


def load_assignments(
    connection: Connection, revision: int | None = None, users: Iterable[UUID] | None = None
) -> dict[Holder, tuple[AssignmentFact, ...]]:
    """All assignments by holder; with `users` those to these users only, with an entry for each."""
    query = select(Assignment.__table__).where(known(Assignment, revision)).order_by(Assignment.assignment_id)
    found: dict[Holder, list[AssignmentFact]] = {}
    holders: dict[str, Mapping[UUID, str]] = {}
    if users is None:
        holders = {
            "group": load_group_names(connection, revision),
            "position": _codes(connection, Position),
            "unit": _codes(connection, OrgUnit),
        }
    else:
        ids = list(users)
        found = {("user", str(one)): [] for one in ids}
        query = query.where(Assignment.holder_kind == "user", Assignment.holder_id.in_(ids))
    for row in connection.execute(query):
        holder = holders.get(row.holder_kind, {}).get(row.holder_id, str(row.holder_id))
        found.setdefault((row.holder_kind, holder), []).append(_assignment(row))
    return {key: tuple(rows) for key, rows in found.items()}


def _assignment(row: Row[Any]) -> AssignmentFact:
    return AssignmentFact(
        id=str(row.assignment_id),
        role=row.role_key,
        scope=Scope(row.company, row.org_unit, row.business_type),
        limit=Amount(row.limit_value, row.limit_currency) if row.limit_value is not None else None,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
    )


def load_admin_grants(connection: Connection, revision: int | None = None) -> dict[Holder, tuple[Bounds, ...]]:
    """AdminGrants by their holder: a user's id or a role's key."""
    found: dict[Holder, list[Bounds]] = {}
    query = select(AdminGrant.__table__).where(known(AdminGrant, revision)).order_by(AdminGrant.grant_id)
    for row in connection.execute(query):
        limit = Amount(row.limit_value, row.limit_currency) if row.limit_value is not None else None
        found.setdefault((row.holder_kind, row.holder_id), []).append(
            Bounds(
                id=str(row.grant_id),
                powers=frozenset(row.powers),
                roles=tuple(row.role_keys),
                scope=Scope(row.company, row.org_unit, row.business_type),
                limit=limit,
                max_days=row.max_days,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
        )
    return {holder: tuple(rows) for holder, rows in found.items()}


def load_identities(
    connection: Connection,
    org: Mapping[str, Sequence[str]],
    only: Iterable[UUID] | None = None,
    revision: int | None = None,
) -> dict[UUID, Identity]:
    """All identities, or only these, with their facts."""
    ids = None if only is None else list(only)

    def chosen(column: Any) -> Any:
        return column.is_not(None) if ids is None else one_of(connection, column, ids)

    groups: dict[UUID, list[str]] = {}
    query = select(Membership.user_id, Membership.group_id).where(known(Membership, revision))
    inside: Iterable[Any] = connection.execute(query.where(chosen(Membership.user_id)))
    if ids is not None:
        inside = list(inside)
    names = load_group_names(connection, revision, None if ids is None else {row.group_id for row in inside})
    for user_id, group_id in inside:
        groups.setdefault(user_id, []).append(names[group_id])
    attributes: dict[UUID, dict[str, Any]] = {}
    stored = select(UserAttribute.user_id, UserAttribute.name, UserAttribute.value).where(
        known(UserAttribute, revision), chosen(UserAttribute.user_id)
    )
    for row in connection.execute(stored):
        attributes.setdefault(row.user_id, {})[row.name] = row.value
    jobs = _employments(connection, org, chosen, revision)
    states = select(
        User.id,
        User.sub,
        User.person_id,
        User.login,
        UserState.state,
        UserState.valid_until,
    ).join(UserState, (UserState.user_id == User.id) & known(UserState, revision))
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
                groups=tuple(sorted(groups.get(row.id, ()))),
                employments=tuple(jobs.get(row.id, ())),
                attributes=_policy_attributes(jobs.get(row.id, ()), attributes.get(row.id, {})),
            ),
        )
        for row in connection.execute(states.where(chosen(User.id)).order_by(User.id))
    }


def _employments(
    connection: Connection, org: Mapping[str, Sequence[str]], chosen: Any, revision: int | None
) -> dict[UUID, list[EmploymentFact]]:
    units, positions = _codes(connection, OrgUnit), _codes(connection, Position)
    found: dict[UUID, list[EmploymentFact]] = {}
    query = select(Employment.__table__).where(known(Employment, revision), chosen(Employment.user_id))
    for row in connection.execute(query.order_by(Employment.employment_id)):
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


def _codes(connection: Connection, table: type[OrgUnit | Position]) -> dict[UUID, str]:
    """Codes of units or positions, which never change."""
    return {row.id: row.code for row in connection.execute(select(table.id, table.code))}


def _policy_attributes(jobs: Sequence[EmploymentFact], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that conditions may read: our own facts win over stored attributes of the same name."""
    job = next((one for one in jobs if one.primary), None)
    own = {"company": job.company, "org_unit": job.org_unit or "", "position": job.position or ""} if job else {}
    return {**stored, **own}
