"""What we hold of one source, as the plan takes it; plain rows, because a company has a hundred thousand.

For a reading that gives only what changed, only what its entries could touch is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Text, cast, func, select
from sqlalchemy.orm import aliased

from identity.core.bulk import one_of
from identity.directory.dn import normalise_or_empty
from identity.directory.models import DirectorySource
from identity.directory.reader import Reading
from identity.directory.settings import DirectorySettings
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
from identity.sync.overtaken import overtaken
from identity.sync.plan import (
    Decision,
    KnownDirectory,
    KnownGroup,
    KnownUser,
    Other,
    Values,
    end_of,
    is_kept_out,
)

CHUNK = 500
ROWS = 5_000
SCOPE_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What the entries of a partial reading can touch: accounts by immutable id and DN, logins (folded), employee
    numbers, and groups whose members may change."""

    ids: frozenset[str]
    dns: frozenset[str]
    logins: frozenset[str]
    numbers: frozenset[str]
    groups: frozenset[str]


def scope_of(reading: Reading, settings: DirectorySettings) -> Scope | None:
    """What to read for this reading; None = everything."""
    if reading.complete or reading.present is not None:
        return None
    names = settings.attributes
    users = [entry for entry in reading.entries if entry.kind == "user"]
    groups = [entry for entry in reading.entries if entry.kind == "group"]
    dns = {dn for entry in groups for dn in entry.members}
    dns |= {name for entry in users if (said := entry.first(names.manager)) and (name := normalise_or_empty(said))}
    found = Scope(
        ids=frozenset(entry.immutable_id for entry in users) | reading.gone,
        dns=frozenset(dns),
        logins=frozenset(fold_login(login) for entry in users if (login := entry.first(names.login))),
        numbers=frozenset(number for entry in users if (number := entry.first(names.employee_number))),
        groups=frozenset(entry.immutable_id for entry in groups) | reading.gone,
    )
    return found if len(found.ids) + len(found.dns) <= SCOPE_MAX else None


def load_known(connection: Connection, source_id: UUID, scope: Scope | None = None) -> KnownDirectory:
    """Read the source's accounts (those in `scope`), groups and departments, and what new entries could collide
    with."""
    users, logins, numbers = _people(connection, source_id, scope)
    for key, values in overtaken(connection, source_id).items():
        if key in users:
            users[key] = replace(users[key], overtaken=values)
    decisions = select(SyncDecision.immutable_id, SyncDecision.action, SyncDecision.user_id)
    return KnownDirectory(
        users=users,
        groups=_groups(connection, source_id),
        departments=_departments(connection, source_id),
        logins=logins,
        numbers=numbers,
        members=_members(connection, source_id, users, whole=scope is None),
        group_names=frozenset(
            connection.execute(select(Group.name).where(Group.source_id.is_distinct_from(source_id))).scalars()
        ),
        unit_codes=frozenset(
            connection.execute(select(OrgUnit.code).where(OrgUnit.source_id.is_distinct_from(source_id))).scalars()
        ),
        decisions={
            row.immutable_id: Decision(row.action, row.user_id)
            for row in connection.execute(decisions.where(SyncDecision.source_id == source_id))
        },
    )


Numbers = dict[tuple[str, str], tuple[Other, str | None]]


def count_accounts(connection: Connection, source_id: UUID) -> tuple[int, int]:
    """How many accounts the source has, and how many of them are active: `KnownDirectory.accounts` for a partial
    reading, where they matter (`guard.asks_for_totals`)."""
    query = (
        select(func.count(), func.count().filter(UserState.state == "active"))
        .select_from(SourceAccount)
        .join(UserState, (UserState.user_id == SourceAccount.user_id) & UserState.rev_until.is_(None))
        .where(SourceAccount.source_id == source_id)
    )
    total, active = connection.execute(query).one()
    return total, active


def _people(
    connection: Connection, source_id: UUID, scope: Scope | None
) -> tuple[dict[str, KnownUser], dict[str, Other], Numbers]:
    """The source's accounts, everybody else by login, and all by employee number."""
    ids = _concerned(connection, source_id, scope) if scope else None
    shared = _shared(connection, source_id, ids)
    forests = _forests(connection, source_id, ids)
    jobs = _jobs(connection, ids)
    users: dict[str, KnownUser] = {}
    persons: dict[UUID, str] = {}
    logins: dict[str, Other] = {}
    numbers: Numbers = {}
    for row in _chosen(connection, _users(source_id), User.id, ids):
        user_id, login, person_id, state, cause, until, name, family, given, mail, phone, key, dn, status, since = row
        job, active = jobs.get(user_id, _JOBLESS), state == "active"
        if key is not None:
            persons.setdefault(person_id, key)
            held, led = shared.get(user_id, _ALONE)
            values = {
                "login": login,
                "dn": dn,
                "valid_until": end_of(until),
                "name": name,
                "family_name": family,
                "given_name": given,
                "mail": mail,
                "phone": phone,
                "company": job.company,
                "department": job.department,
                "position": job.position,
                "employee_number": job.employee_number,
                "manager": None,
            }
            missing = since if status == "missing" else None
            alone, kept_out = user_id not in shared, is_kept_out(state, cause)
            users[key] = KnownUser(user_id, active, values, held, led, missing, alone, kept_out)
        if key is None or job.employee_number:
            other = Other(user_id, login, active, forests.get(user_id, _NOTHING), mail, name)
            if key is None:
                logins[fold_login(login)] = other
            if job.company and job.employee_number:
                numbers[job.company, job.employee_number] = other, key
    if scope:
        bosses = {job.manager for job in jobs.values() if job.manager} - persons.keys()
        persons |= _keys(connection, source_id, bosses)
    for user in users.values():
        boss = jobs.get(user.user_id, _JOBLESS).manager
        if boss:
            user.values["manager"] = persons.get(boss)
    return users, logins, numbers


class _Job(NamedTuple):
    """An employment, units and position by code, the manager by person."""

    company: str | None
    department: str | None
    position: str | None
    employee_number: str | None
    manager: UUID | None


_JOBLESS = _Job(None, None, None, None, None)
_NOTHING: frozenset[str] = frozenset()
_ALONE: tuple[frozenset[str], bool] = (_NOTHING, True)


def _chosen(connection: Connection, query: Any, column: Any, values: Collection[Any] | None) -> Iterator[Any]:
    """The query's rows, all or those whose column has one of these values."""
    if values is None:
        # Many rows at a time: the driver takes each by itself else.
        for rows in connection.execute(query).partitions(ROWS):
            yield from rows
        return
    wanted = list(values)
    for start in range(0, len(wanted), CHUNK):
        yield from connection.execute(query.where(one_of(connection, column, wanted[start : start + CHUNK])))


def _concerned(connection: Connection, source_id: UUID, scope: Scope) -> set[UUID]:
    """Whose accounts are in scope, and who has a login or an employee number of the reading."""
    query = select(SourceAccount.user_id).where(SourceAccount.source_id == source_id)
    members = (
        query.join(Membership, (Membership.user_id == SourceAccount.user_id) & Membership.rev_until.is_(None))
        .join(Group, Group.id == Membership.group_id)
        .where(Group.source_id == source_id)
    )
    by_login = select(User.id.label("user_id"))
    numbered = select(Employment.user_id).where(
        Employment.is_primary, Employment.rev_until.is_(None), Employment.user_id.is_not(None)
    )
    found = (
        *_chosen(connection, query, SourceAccount.immutable_id, scope.ids),
        *_chosen(connection, query, SourceAccount.dn, scope.dns),
        *_chosen(connection, members, Group.immutable_id, scope.groups),
        *_chosen(connection, by_login, User.login_key, scope.logins),
        *_chosen(connection, numbered, Employment.employee_number, scope.numbers),
    )
    return {row.user_id for row in found}


def _keys(connection: Connection, source_id: UUID, persons: Collection[UUID]) -> dict[UUID, str]:
    """Persons as accounts of this source."""
    query = (
        select(User.person_id, SourceAccount.immutable_id)
        .join(SourceAccount, SourceAccount.user_id == User.id)
        .where(SourceAccount.source_id == source_id)
    )
    found: dict[UUID, str] = {}
    for row in _chosen(connection, query, User.person_id, persons):
        found.setdefault(row.person_id, row.immutable_id)
    return found


def _users(source_id: UUID) -> Any:
    """Identities, once for each of their accounts in this source, or once where they have none there."""
    account = (SourceAccount.user_id == User.id) & (SourceAccount.source_id == source_id)
    return (
        select(
            *(User.id, User.login, User.person_id, UserState.state, UserState.cause, UserState.valid_until),
            *(PersonProfile.name, PersonProfile.family_name, PersonProfile.given_name),
            *(PersonProfile.mail, PersonProfile.phone),
            *(SourceAccount.immutable_id, SourceAccount.dn, SourceAccount.status, SourceAccount.missing_since),
        )
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .outerjoin(SourceAccount, account)
    )


def _jobs(connection: Connection, ids: Collection[UUID] | None) -> dict[UUID, _Job]:
    company, unit = aliased(OrgUnit), aliased(OrgUnit)
    query = (
        select(
            *(Employment.user_id, company.code, unit.code, Position.code),
            *(Employment.employee_number, Employment.manager_person_id),
        )
        .join(company, company.id == Employment.company_id)
        .outerjoin(unit, unit.id == Employment.org_unit_id)
        .outerjoin(Position, Position.id == Employment.position_id)
        .where(Employment.is_primary, Employment.rev_until.is_(None), Employment.user_id.is_not(None))
    )
    # A thousand people of a department share the text of its code.
    texts: dict[str | None, str | None] = {}
    once = texts.setdefault
    return {
        user_id: _Job(once(a, a), once(b, b), once(c, c), number, manager)
        for user_id, a, b, c, number, manager in _chosen(connection, query, Employment.user_id, ids)
    }


def _shared(
    connection: Connection, source_id: UUID, ids: Collection[UUID] | None
) -> dict[UUID, tuple[frozenset[str], bool]]:
    """Identities with accounts in several sources: which fields another source of higher precedence says (or, where
    this one is silent, any other), and whether this source decides about the state."""
    if connection.execute(select(func.count()).select_from(DirectorySource)).scalar_one() == 1:
        return {}
    several = select(SourceAccount.user_id).group_by(SourceAccount.user_id).having(func.count() > 1).scalar_subquery()
    query = select(
        SourceAccount.user_id,
        SourceAccount.source_id,
        SourceAccount.seen,
        SourceAccount.status,
        DirectorySource.precedence,
        DirectorySource.code,
    ).join(DirectorySource, DirectorySource.id == SourceAccount.source_id)
    if ids is None:
        query = query.where(SourceAccount.user_id.in_(several))
    by_user: dict[UUID, list[Any]] = defaultdict(list)
    for row in _chosen(connection, query, SourceAccount.user_id, ids):
        by_user[row.user_id].append(row)
    found = {}
    for user_id, rows in by_user.items():
        if len(rows) == 1:
            continue
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


def _forests(connection: Connection, source_id: UUID, ids: Collection[UUID] | None) -> dict[UUID, frozenset[str]]:
    names = {
        row.id: row.settings.get("forest")
        for row in connection.execute(select(DirectorySource.id, DirectorySource.settings))
        if row.id != source_id
    }
    found: dict[UUID, set[str]] = defaultdict(set)
    wanted = [source for source, forest in names.items() if forest]
    query = select(SourceAccount.user_id, SourceAccount.source_id).where(SourceAccount.source_id.in_(wanted))
    for user_id, source in _chosen(connection, query, SourceAccount.user_id, ids) if wanted else ():
        found[user_id].add(names[source])
    return {user_id: frozenset(forests) for user_id, forests in found.items()}


def _members(
    connection: Connection, source_id: UUID, users: Mapping[str, KnownUser], *, whole: bool
) -> dict[str, frozenset[str]]:
    """Who of these accounts is in each group of the source, by immutable ids; `whole` = they are all accounts.

    The database joins the members of a group into one text: half a million rows cost ten times what their groups do.
    """
    keys: dict[str, tuple[str, ...]] = {}
    for key, user in users.items():
        keys[user.user_id.hex] = (*keys.get(user.user_id.hex, ()), key)
    query = (
        select(Group.immutable_id, func.aggregate_strings(cast(Membership.user_id, Text), " "))
        .join(Group, Group.id == Membership.group_id)
        .where(Membership.rev_until.is_(None), Group.source_id == source_id)
        .group_by(Group.immutable_id)
    )
    ids = None if whole else {user.user_id for user in users.values()}
    found: dict[str, set[str]] = defaultdict(set)
    for group, members in _chosen(connection, query, Membership.user_id, ids):
        for text in members.replace("-", "").split(" "):
            found[group].update(keys.get(text, ()))
    return {group: frozenset(members) for group, members in found.items()}


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
