"""What we hold of one source, as the plan takes it; plain rows, because a company has a hundred thousand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from identity.directory.models import DirectorySource
from identity.people.inputs import fold_login
from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    Membership,
    OrgPlacement,
    OrgUnit,
    PersonProfile,
    Position,
    SourceAccount,
    User,
    UserState,
)
from identity.sync.models import SyncDecision
from identity.sync.plan import PROFILE, Decision, KnownDirectory, KnownGroup, KnownUser, Other, Values, end_of


def load_known(connection: Connection, source_id: UUID) -> KnownDirectory:
    """Read the source's accounts, groups and departments, and what new entries could collide with."""
    people = _people(connection, source_id)
    groups = _groups(connection, source_id)
    units = _departments(connection, source_id)
    users, logins, numbers = people
    return KnownDirectory(
        users=users,
        groups=groups,
        departments=units,
        logins=logins,
        numbers=numbers,
        group_names=frozenset(
            connection.execute(select(Group.name).where(Group.source_id.is_distinct_from(source_id))).scalars()
        ),
        unit_codes=frozenset(
            connection.execute(select(OrgUnit.code).where(OrgUnit.source_id.is_distinct_from(source_id))).scalars()
        ),
        decisions={
            row.immutable_id: Decision(row.action, row.user_id)
            for row in connection.execute(
                select(SyncDecision.immutable_id, SyncDecision.action, SyncDecision.user_id).where(
                    SyncDecision.source_id == source_id
                )
            )
        },
    )


Numbers = dict[tuple[str, str], tuple[Other, str | None]]


def _people(connection: Connection, source_id: UUID) -> tuple[dict[str, KnownUser], dict[str, Other], Numbers]:
    accounts = list(
        connection.execute(
            select(SourceAccount.user_id, SourceAccount.immutable_id, SourceAccount.dn).where(
                SourceAccount.source_id == source_id
            )
        )
    )
    shared = _shared(connection, source_id)
    forests = _forests(connection, source_id)
    jobs = _jobs(connection)
    memberships = _memberships(connection, source_id)
    rows = {row.id: row for row in connection.execute(_USERS)}
    persons: dict[UUID, str] = {}
    for user_id, key, _ in accounts:
        persons.setdefault(rows[user_id].person_id, key)
    users: dict[str, KnownUser] = {}
    owners: dict[UUID, str] = {}
    for user_id, key, dn in accounts:
        row, job = rows[user_id], jobs.get(user_id)
        owners[user_id] = key
        held, led = shared.get(user_id, (frozenset(), True))
        values: dict[str, Any] = {
            "login": row.login,
            "dn": dn,
            "valid_until": end_of(row.valid_until),
            "name": row.name,
            "family_name": row.family_name,
            "given_name": row.given_name,
            "mail": row.mail,
            "phone": row.phone,
            "company": job.company if job else None,
            "department": job.department if job else None,
            "position": job.position if job else None,
            "employee_number": job.employee_number if job else None,
            "manager": persons.get(job.manager_person_id) if job and job.manager_person_id else None,
        }
        users[key] = KnownUser(user_id, row.state == "active", values, memberships.get(user_id, frozenset()), held, led)
    others = {
        row.id: Other(row.id, row.login, row.state == "active", forests.get(row.id, frozenset()), row.mail, row.name)
        for row in rows.values()
    }
    logins = {fold_login(one.login): one for one in others.values() if one.user_id not in owners}
    numbers: Numbers = {
        (job.company, job.employee_number): (others[user_id], owners.get(user_id))
        for user_id, job in jobs.items()
        if job.employee_number and user_id in others
    }
    return users, logins, numbers


_USERS = (
    select(
        User.id,
        User.login,
        User.person_id,
        UserState.state,
        UserState.valid_until,
        *(getattr(PersonProfile, name) for name in PROFILE),
    )
    .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
    .join(PersonProfile, PersonProfile.person_id == User.person_id)
)


def _jobs(connection: Connection) -> dict[UUID, Any]:
    company, unit = aliased(OrgUnit), aliased(OrgUnit)
    query = (
        select(
            Employment.user_id,
            Employment.employee_number,
            Employment.manager_person_id,
            company.code.label("company"),
            unit.code.label("department"),
            Position.code.label("position"),
        )
        .join(company, company.id == Employment.company_id)
        .outerjoin(unit, unit.id == Employment.org_unit_id)
        .outerjoin(Position, Position.id == Employment.position_id)
        .where(Employment.is_primary, Employment.rev_until.is_(None), Employment.user_id.is_not(None))
    )
    return {row.user_id: row for row in connection.execute(query)}


def _shared(connection: Connection, source_id: UUID) -> dict[UUID, tuple[frozenset[str], bool]]:
    """Identities with accounts in several sources: which fields another source of higher precedence says (or, where
    this one is silent, any other), and whether this source decides about the state."""
    several = select(SourceAccount.user_id).group_by(SourceAccount.user_id).having(func.count() > 1).scalar_subquery()
    query = (
        select(
            SourceAccount.user_id,
            SourceAccount.source_id,
            SourceAccount.seen,
            SourceAccount.status,
            DirectorySource.precedence,
            DirectorySource.code,
        )
        .join(DirectorySource, DirectorySource.id == SourceAccount.source_id)
        .where(SourceAccount.user_id.in_(several))
    )
    by_user: dict[UUID, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        by_user[row.user_id].append(row)
    found = {}
    for user_id, rows in by_user.items():
        mine = next((row for row in rows if row.source_id == source_id), None)
        if mine is None:
            continue
        held: set[str] = set()
        led = True
        for row in rows:
            said = {name for name, value in (row.seen or {}).items() if value is not None}
            if row.source_id == source_id:
                continue
            if (row.precedence, row.code) < (mine.precedence, mine.code):
                held |= said
                led = led and row.status != "present"
            else:
                held |= {name for name in said if not (mine.seen or {}).get(name)}
        found[user_id] = frozenset(held - {"dn"}), led
    return found


def _forests(connection: Connection, source_id: UUID) -> dict[UUID, frozenset[str]]:
    names = {
        row.id: row.settings.get("forest")
        for row in connection.execute(select(DirectorySource.id, DirectorySource.settings))
        if row.id != source_id
    }
    found: dict[UUID, set[str]] = defaultdict(set)
    wanted = [source for source, forest in names.items() if forest]
    query = select(SourceAccount.user_id, SourceAccount.source_id).where(SourceAccount.source_id.in_(wanted))
    for user_id, source in connection.execute(query) if wanted else ():
        found[user_id].add(names[source])
    return {user_id: frozenset(forests) for user_id, forests in found.items()}


def _memberships(connection: Connection, source_id: UUID) -> Mapping[UUID, frozenset[str]]:
    query = (
        select(Membership.user_id, Group.immutable_id)
        .join(Group, Group.id == Membership.group_id)
        .where(Membership.rev_until.is_(None), Group.source_id == source_id)
    )
    found: dict[UUID, list[str]] = defaultdict(list)
    for user_id, key in connection.execute(query):
        found[user_id].append(str(key))
    return {user_id: frozenset(keys) for user_id, keys in found.items()}


def _groups(connection: Connection, source_id: UUID) -> dict[str, KnownGroup]:
    query = select(Group.id, Group.immutable_id, Group.name, Group.display_name, Group.dn)
    rows = list(connection.execute(query.where(Group.source_id == source_id)))
    ids = {row.id: row.immutable_id for row in rows}
    children: dict[UUID, set[str]] = defaultdict(set)
    edges = select(GroupEdge.parent_id, GroupEdge.child_id).where(GroupEdge.rev_until.is_(None))
    for parent, child in connection.execute(edges):
        if parent in ids and child in ids:
            children[parent].add(ids[child])
    return {
        row.immutable_id: KnownGroup(row.name, row.display_name, row.dn or "", frozenset(children.get(row.id, ())))
        for row in rows
    }


def _departments(connection: Connection, source_id: UUID) -> dict[str, Values]:
    company, parent = aliased(OrgUnit), aliased(OrgUnit)
    rows = connection.execute(
        select(
            *(OrgUnit.immutable_id, OrgUnit.code, OrgUnit.name, OrgUnit.dn, OrgPlacement.active),
            *(company.code.label("company"), parent.code.label("parent")),
        )
        .join(OrgPlacement, (OrgPlacement.org_unit_id == OrgUnit.id) & OrgPlacement.rev_until.is_(None))
        .outerjoin(company, company.id == OrgPlacement.company_id)
        .outerjoin(parent, parent.id == OrgPlacement.parent_id)
        .where(OrgUnit.source_id == source_id)
    )
    names = ("code", "name", "company", "parent", "dn", "active")
    return {row.immutable_id: {name: getattr(row, name) for name in names} for row in rows}
