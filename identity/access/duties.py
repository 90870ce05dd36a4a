"""Static separation of duty on every path: what a Unit is about to commit is looked at once, before it stands.

A Unit that would give somebody two duties of a rule is refused with the list of people. A sync is not: it states what
a directory says, so all its facts stand, and the one derived membership is held back until somebody decides. The look
happens behind the counter row, where all writers meet, so that two edits cannot pass each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, or_, select, update

from identity.access.console import BUILT_IN_DUTY, BUILT_IN_PERMISSIONS, SECURITY_ADMIN
from identity.access.duty_reach import within_reach
from identity.access.subject import Identity, load_identities, load_org, load_rules, load_world
from identity.audit.kinds import Kind
from identity.core.bulk import one_of
from identity.core.errors import Conflict
from identity.core.facts import known
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.models import GroupEdge, Membership, PersonProfile, User, UserState
from identity.roles import rules
from identity.roles.mapping import MappingWorld, derive
from identity.roles.models import Assignment, HeldGain, Mitigation
from policies import Conflict as Broken
from policies import Grant, StaticDuties

KINDS = frozenset({"user", "group", "org", "assignment", "policy"})
LISTED = 20
CHUNK = 500
# More than this many at once are as well read as everybody.
PERSONS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A person breaks a static rule; `grants` are what meets."""

    person_id: UUID
    rule: str
    title: str
    level: str
    duties: tuple[str, ...]
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What persons hold at one facts revision, and what of it breaks a static rule."""

    persons: Mapping[UUID, tuple[Identity, ...]]
    world: MappingWorld
    duties: StaticDuties
    rules: Mapping[str, tuple[str, str]]
    """Rule → (title, level)."""

    @classmethod
    def load(cls, connection: Connection, revision: int, persons: Collection[UUID] | None = None) -> Holdings:
        """As known at this revision, of these persons or of all; whoever holds nothing that a rule could be about is
        left out."""
        version, content = load_rules(connection, revision)
        rule_set = rules.rule_set(content, version, BUILT_IN_PERMISSIONS)
        rule_set = replace(rule_set, static_duties=(*rule_set.static_duties, BUILT_IN_DUTY))
        near = within_reach(connection, content, StaticDuties(rule_set), revision, persons)
        org = load_org(connection, revision) if near else {}
        by_person: dict[UUID, list[Identity]] = {}
        for one in _identities(connection, org, near, revision):
            if one.state == "active":
                by_person.setdefault(one.person_id, []).append(one)
        return cls(
            persons={person: tuple(found) for person, found in by_person.items()},
            world=load_world(connection, content, org, revision) if near else MappingWorld({}, {}, {}),
            duties=StaticDuties(rule_set, org),
            rules={
                BUILT_IN_DUTY.id: ("The three administrators are three persons", "H"),
                **{one.id: (one.title, one.level) for one in content.duties},
            },
        )

    def grants(self, person: UUID, world: MappingWorld | None = None) -> list[Grant]:
        """What all active identities of the person hold together."""
        within = world or self.world
        return [one.grant for identity in self.persons.get(person, ()) for one in derive(identity.facts, within)]

    def broken(self, person: UUID, world: MappingWorld | None = None) -> list[Broken]:
        return self.duties.conflicts(self.grants(person, world))

    def finding(self, person: UUID, broken: Broken) -> Finding:
        title, level = self.rules.get(broken.rule, (broken.rule, "H"))
        return Finding(person, broken.rule, title, level, broken.duties, broken.grants)


def _identities(
    connection: Connection, org: Mapping[str, Sequence[str]], persons: Collection[UUID], revision: int
) -> Iterable[Identity]:
    """All identities of these persons."""
    if not persons:
        return ()
    if len(persons) > PERSONS_MAX:
        return (one for one in load_identities(connection, org, None, revision).values() if one.person_id in persons)
    users = select(User.id).where(one_of(connection, User.person_id, list(persons)))
    return load_identities(connection, org, list(connection.execute(users).scalars()), revision).values()


def findings(connection: Connection, revision: int) -> list[Finding]:
    """Everybody who breaks a static rule at this revision, mitigated or not."""
    holdings = Holdings.load(connection, revision)
    return [holdings.finding(person, one) for person in holdings.persons for one in holdings.broken(person)]


def mitigated(connection: Connection, revision: int, now: datetime) -> frozenset[tuple[UUID, str]]:
    """(person, rule) with a mitigating control that is valid now."""
    rows = connection.execute(select(Mitigation.__table__).where(known(Mitigation, revision)))
    return frozenset(
        (row.person_id, row.rule_id)
        for row in rows
        if (row.valid_from is None or row.valid_from <= now) and (row.valid_until is None or now < row.valid_until)
    )


def watch(unit: Unit, revision: int) -> None:
    """Look at what this Unit is about to commit as `revision`.

    Raises `Conflict` when somebody would newly break a static rule without a mitigating control, or when no security
    administrator could act any more. A sync's gains are held back instead.
    """
    touched = {kind: ids for kind, ids in unit.facts.touched.items() if kind in KINDS}
    if not touched:
        return
    connection = unit.db.connection()
    _keep_a_security_administrator(connection, revision, unit.now)
    persons = _persons(connection, touched, revision)
    after = Holdings.load(connection, revision, persons)
    controls = mitigated(connection, revision, unit.now)
    broken = {person: after.broken(person) for person in after.persons}
    broken = {person: [one for one in found if (person, one.rule) not in controls] for person, found in broken.items()}
    syncing = unit.actor.kind == "system" and unit.actor.id.startswith("sync:")
    if syncing:
        _release(unit, after, revision)
    if not any(broken.values()):
        return
    before = Holdings.load(connection, revision - 1, [person for person, found in broken.items() if found])
    if syncing:
        _hold(unit, before, after, [person for person, found in broken.items() if found], revision)
        return
    news = [
        after.finding(person, one)
        for person, found in broken.items()
        for one in found
        if one not in (before.broken(person) if found else ())
    ]
    if news:
        raise Conflict(
            "This would join duties that are separated: " + "; ".join(_sentences(connection, news)),
            code="separated_duty",
        )


def _persons(
    connection: Connection, touched: Mapping[str, Mapping[str, None] | None], revision: int
) -> list[UUID] | None:
    """The persons whom the changes can concern, or None for everybody."""
    if not set(touched) <= {"user", "group"} or None in touched.values():
        return None
    users = {UUID(one) for one in touched.get("user") or ()}
    groups = [UUID(one) for one in touched.get("group") or ()]
    if groups:
        users |= _inside(connection, groups, revision)
    if len(users) > PERSONS_MAX:
        return None
    ids = list(users)
    found: set[UUID] = set()
    for start in range(0, len(ids), CHUNK):
        query = select(User.person_id).where(one_of(connection, User.id, ids[start : start + CHUNK]))
        found.update(connection.execute(query).scalars())
    return list(found)


def _inside(connection: Connection, groups: Iterable[UUID], revision: int) -> set[UUID]:
    """Whoever is in these groups or in groups in them, by this revision or the one before."""
    children: dict[UUID, list[UUID]] = {}
    edges = select(GroupEdge.parent_id, GroupEdge.child_id).where(
        or_(known(GroupEdge, revision), known(GroupEdge, revision - 1))
    )
    for parent, child in connection.execute(edges):
        children.setdefault(parent, []).append(child)
    below = dict.fromkeys(groups)
    waiting = list(below)
    for group in waiting:
        fresh = [child for child in children.get(group, ()) if child not in below]
        below |= dict.fromkeys(fresh)
        waiting += fresh
    ids = list(below)
    found: set[UUID] = set()
    member = or_(known(Membership, revision), known(Membership, revision - 1))
    for start in range(0, len(ids), CHUNK):
        query = select(Membership.user_id).where(
            one_of(connection, Membership.group_id, ids[start : start + CHUNK]), member
        )
        found.update(connection.execute(query).scalars())
    return found


def _keep_a_security_administrator(connection: Connection, revision: int, now: datetime) -> None:
    if _lasting_administrators(connection, revision - 1, now) and not _lasting_administrators(
        connection, revision, now
    ):
        raise Conflict("No security administrator could act any more.", code="last_security_admin")


def _lasting_administrators(connection: Connection, revision: int, now: datetime) -> int:
    """Security administrators who can act, now and for as long as nobody changes it."""
    rows = connection.execute(
        select(Assignment.valid_from, UserState.user_id)
        .join(UserState, (UserState.user_id == Assignment.holder_id) & known(UserState, revision))
        .where(
            Assignment.role_key == SECURITY_ADMIN,
            Assignment.holder_kind == "user",
            known(Assignment, revision),
            Assignment.valid_until.is_(None),
            UserState.state == "active",
            UserState.valid_until.is_(None),
        )
    )
    return len({row.user_id for row in rows if row.valid_from is None or row.valid_from <= now})


def _hold(unit: Unit, before: Holdings, after: Holdings, persons: Iterable[UUID], revision: int) -> None:
    """Hold back new gains, one after the other, until the person breaks nothing new."""
    controls = mitigated(unit.db.connection(), revision, unit.now)
    for person in persons:
        had = {(one.role, one.cause) for one in before.grants(person)}
        stood = before.broken(person)
        held = after.world.held_gains.get(person, frozenset())
        while True:
            world = replace(after.world, held_gains={person: held})
            found = next(
                (
                    (one, grant)
                    for one in after.broken(person, world)
                    if one not in stood and (person, one.rule) not in controls
                    for grant in one.grants
                    if (grant.role, grant.cause) not in had
                ),
                None,
            )
            if found is None:
                break
            broken, grant = found
            held |= {(grant.role, grant.cause)}
            _hold_one(unit, person, grant, broken, revision)


def _hold_one(unit: Unit, person: UUID, grant: Grant, broken: Broken, revision: int) -> None:
    unit.db.add(
        HeldGain(person_id=person, role_key=grant.role, cause=grant.cause, rule_id=broken.rule, rev_from=revision)
    )
    unit.db.flush()
    unit.record(
        Record(
            kind=Kind.GAIN_HELD,
            result="success",
            person=person,
            resource_type="role",
            resource_id=grant.role,
            data={"rule": broken.rule, "cause": grant.cause, "duties": list(broken.duties)},
        )
    )


def _release(unit: Unit, after: Holdings, revision: int) -> None:
    """The directory itself may have taken the other duty away: what breaks nothing any more is no longer held."""
    for person in after.persons:
        held = after.world.held_gains.get(person, frozenset())
        for gain in sorted(held):
            rest = held - {gain}
            if after.broken(person, replace(after.world, held_gains={person: rest})):
                continue
            held = rest
            unit.db.execute(
                update(HeldGain)
                .where(
                    HeldGain.person_id == person,
                    HeldGain.role_key == gain[0],
                    HeldGain.cause == gain[1],
                    HeldGain.rev_until.is_(None),
                )
                .values(rev_until=revision)
            )
            unit.record(
                Record(
                    kind=Kind.GAIN_RELEASED,
                    result="success",
                    person=person,
                    resource_type="role",
                    resource_id=gain[0],
                    data={"cause": gain[1]},
                )
            )


def _sentences(connection: Connection, news: list[Finding]) -> list[str]:
    names = dict(
        connection.execute(
            select(PersonProfile.person_id, PersonProfile.name).where(
                PersonProfile.person_id.in_([one.person_id for one in news[:LISTED]])
            )
        ).all()
    )
    lines = [
        f"{names.get(one.person_id, one.person_id)}: {one.rule} {one.title} ({' + '.join(one.duties)})"
        for one in news[:LISTED]
    ]
    return [*lines, *([f"and {len(news) - LISTED} more"] if len(news) > LISTED else [])]
