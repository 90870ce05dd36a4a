"""Whom a static rule of duty can be about: who holds anything from which a role of a rule may come.

Few of a company's hundred thousand people hold anything that the rules separate; all others need not be read to know
that they break nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.subject import load_group_names
from identity.core.bulk import one_of
from identity.core.facts import known
from identity.people.models import Employment, GroupEdge, Membership, OrgPlacement, OrgUnit, Position, User
from identity.roles.inputs import RuleSetInput
from identity.roles.models import Assignment, HeldGain
from policies import StaticDuties

CHUNK = 5_000


def within_reach(
    connection: Connection,
    content: RuleSetInput,
    duties: StaticDuties,
    revision: int,
    persons: Collection[UUID] | None = None,
) -> set[UUID]:
    """Of these persons (None = of all) those who may break a rule of `duties`, and those from whom something is held
    back, as known at this revision.

    Never too few: validity, conditions, scopes and excluding rows, which only take away, are not looked at.
    """
    sources = _sources(connection, content, duties, revision)
    groups = _below(connection, sources["group"], GroupEdge.parent_id, GroupEdge.child_id, known(GroupEdge, revision))
    units = _below(
        connection, sources["unit"], OrgPlacement.parent_id, OrgPlacement.org_unit_id, known(OrgPlacement, revision)
    )
    users = select(User.person_id)
    queries = [(HeldGain.person_id, select(HeldGain.person_id).where(known(HeldGain, revision)))]
    queries += _named(connection, User.person_id, users, User.id, sources["user"])
    member = users.join(Membership, (Membership.user_id == User.id) & known(Membership, revision))
    queries += _named(connection, User.person_id, member, Membership.group_id, groups)
    employed = users.join(Employment, (Employment.user_id == User.id) & known(Employment, revision))
    queries += _named(connection, User.person_id, employed, Employment.position_id, sources["position"])
    for column in (Employment.org_unit_id, Employment.company_id):
        queries += _named(connection, User.person_id, employed, column, units)
    found: set[UUID] = set()
    for person, query in queries:
        found |= _of(connection, query, person, persons)
    return found


def _sources(
    connection: Connection, content: RuleSetInput, duties: StaticDuties, revision: int
) -> Mapping[str, set[UUID]]:
    """The users, groups, positions and units from which a role of a rule may come, by assignment or mapping."""
    led: set[str] = set()
    named: dict[str, set[str]] = {"group": set(), "position": set(), "unit": set()}
    rows = [one for one in content.mappings if not one.exclude]
    before = -1
    # A mapping may lead to a business role, from which another leads on.
    while len(led) != before:
        before = len(led)
        for row in rows:
            if row.role in led or duties.is_about(row.role):
                named.get(row.source_kind, led).add(row.source)
    found: dict[str, set[UUID]] = {
        "user": set(),
        "group": _ids(load_group_names(connection, revision) if named["group"] else {}, named["group"]),
        "position": _by_code(connection, Position, named["position"]),
        "unit": _by_code(connection, OrgUnit, named["unit"]),
    }
    query = select(Assignment.holder_kind, Assignment.holder_id, Assignment.role_key)
    for kind, holder, role in connection.execute(query.where(known(Assignment, revision))):
        if role in led or duties.is_about(role):
            found[kind].add(holder)
    return found


def _ids(names: Mapping[UUID, str], wanted: Collection[str]) -> set[UUID]:
    return {key for key, name in names.items() if name in wanted}


def _by_code(connection: Connection, table: type[OrgUnit | Position], codes: Collection[str]) -> set[UUID]:
    return set(connection.execute(select(table.id).where(table.code.in_(codes))).scalars()) if codes else set()


def _below(connection: Connection, tops: Collection[UUID], above: Any, below: Any, now: Any) -> set[UUID]:
    """These and everything under them; ends on cycles."""
    found = set(tops)
    waiting = list(tops)
    if not waiting:
        return found
    children: dict[UUID, list[UUID]] = {}
    for parent, child in connection.execute(select(above, below).where(now, above.is_not(None))):
        children.setdefault(parent, []).append(child)
    while waiting:
        fresh = [one for one in children.get(waiting.pop(), ()) if one not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _named(connection: Connection, person: Any, query: Any, column: Any, ids: Iterable[UUID]) -> list[tuple[Any, Any]]:
    """The query for those whose column is one of these, some at a time."""
    return [(person, query.where(one_of(connection, column, chunk))) for chunk in _chunks(ids)]


def _of(connection: Connection, query: Any, person: Any, persons: Collection[UUID] | None) -> set[UUID]:
    """The query's persons, all or those of `persons`."""
    if persons is None:
        return set(connection.execute(query).scalars())
    found: set[UUID] = set()
    for chunk in _chunks(persons):
        found.update(connection.execute(query.where(one_of(connection, person, chunk))).scalars())
    return found


def _chunks(ids: Iterable[UUID]) -> list[Sequence[UUID]]:
    every = list(ids)
    return [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
