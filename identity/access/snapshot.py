"""The snapshot: rules and facts of one revision in memory, from which every decision is made.

A change of some users shares everything else with the snapshot before it. `Snapshots.current` raises `Unavailable`
when the process could not confirm its freshness within a second (foundations §5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.console import BUILT_IN_PERMISSIONS
from identity.access.overlay import Overlay
from identity.access.subject import (
    Holder,
    Identity,
    load_admin_grants,
    load_assignments,
    load_group_names,
    load_group_parents,
    load_held_gains,
    load_identities,
    load_org,
    load_rules,
    load_world,
)
from identity.core.bulk import one_of
from identity.core.db import Database
from identity.core.errors import Unavailable
from identity.core.facts import Counter, known
from identity.core.feed import Feed
from identity.people.models import Membership
from identity.roles import rules
from identity.roles.delegation import Bounds
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import AssignmentFact, Derivation, MappingWorld, derive
from policies import Engine, PreparedSubject

_NONE: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class SnapshotUser:
    """An identity with its derived memberships, ready to be decided about."""

    identity: Identity
    derivations: tuple[Derivation, ...]
    subject: PreparedSubject

    @property
    def id(self) -> UUID:
        return self.identity.id

    @property
    def sub(self) -> str:
        return self.identity.sub

    @property
    def person_id(self) -> UUID:
        return self.identity.person_id

    @property
    def login(self) -> str:
        return self.identity.login


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a decision reads, of one facts revision and one policy version."""

    facts_revision: int
    policy_version: int
    content: RuleSetInput
    engine: Engine
    world: MappingWorld
    org: Mapping[str, Sequence[str]]
    users: Overlay[UUID, SnapshotUser]
    by_sub: Overlay[str, UUID]
    admin_grants: Mapping[Holder, tuple[Bounds, ...]]

    def user(self, user_id: UUID) -> SnapshotUser | None:
        return self.users.get(user_id)

    def is_active(self, user_id: UUID, now: datetime) -> bool:
        """Whether the identity may act at `now`."""
        user = self.users.get(user_id)
        if user is None or user.identity.state != "active":
            return False
        until = user.identity.valid_until
        return until is None or now < until

    def roles_in(self, user_id: UUID, application: str, now: datetime) -> tuple[str, ...]:
        """The identity's roles in this application, under the application's own names, inherited ones too."""
        user = self.users.get(user_id)
        if user is None or not self.is_active(user_id, now):
            return ()
        prefix = f"{application}:"
        held = self.engine.roles_of(user.subject, now)
        return tuple(sorted(role[len(prefix) :] for role in held if role.startswith(prefix)))


Reload = Callable[[Connection, Snapshot, int, Sequence[UUID]], Snapshot]


class Snapshots:
    """Keeps the current snapshot true by the change feed."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed
        self._snapshot: Snapshot | None = None
        self._grouped = 0
        """The facts revision at which the groups of the snapshot were read."""
        feed.subscribe(["user"], lambda ids: self._partly(ids, self._users))
        feed.subscribe(["group"], lambda ids: self._partly(ids, self._groups))
        feed.subscribe(["policy", "org", "assignment"], lambda _: self.reload())

    def current(self) -> Snapshot:
        self._feed.confirm()
        if self._snapshot is None:
            raise Unavailable("The service is starting.", "snapshot is not loaded", code="starting")
        return self._snapshot

    def reload(self) -> None:
        """Build the whole snapshot from the tables."""
        with self._database.read(consistent=True) as connection:
            self._grouped = connection.execute(select(Counter.facts_revision)).scalar_one()
            self._snapshot = load(connection, self._grouped)

    def _partly(self, ids: Sequence[str] | None, reload: Reload) -> None:
        """Read again what concerns these ids; everything, where that is not known."""
        before = self._snapshot
        if ids is None or before is None:
            self.reload()
            return
        with self._database.read(consistent=True) as connection:
            revision = connection.execute(select(Counter.facts_revision)).scalar_one()
            self._snapshot = reload(connection, before, revision, [UUID(one) for one in ids])

    def _users(self, connection: Connection, before: Snapshot, revision: int, wanted: Sequence[UUID]) -> Snapshot:
        """What concerns these users: their state and facts, what is assigned to them and held back."""
        identities = load_identities(connection, before.org, wanted)
        assignments = load_assignments(connection, users=wanted)
        held = load_held_gains(connection, persons={one.person_id for one in identities.values()})
        return with_users(before, revision, identities, assignments, held)

    def _groups(self, connection: Connection, before: Snapshot, revision: int, wanted: Sequence[UUID]) -> Snapshot:
        """How these groups are called, how all are nested, and who is in one that has a new name."""
        old = load_group_names(connection, self._grouped, wanted)
        new = load_group_names(connection, revision, wanted)
        renamed = [one for one in wanted if old.get(one) != new.get(one)]
        members = select(Membership.user_id).where(
            known(Membership, revision), one_of(connection, Membership.group_id, renamed)
        )
        users = list(dict.fromkeys(connection.execute(members).scalars())) if renamed else []
        identities = load_identities(connection, before.org, users, revision) if users else {}
        parents = load_group_parents(connection, revision)
        held = load_held_gains(connection, revision)
        assignments = load_assignments(connection, revision) if renamed else before.world.assignments
        world = replace(
            before.world, group_parents=parents, held_gains=Overlay(held), assignments=Overlay.of(assignments)
        )
        made = with_groups(before, revision, world, identities)
        self._grouped = revision
        return made


def load(connection: Connection, revision: int, users: Collection[UUID] | None = None) -> Snapshot:
    """The snapshot of what was known at this facts revision, under the rules that were in force; of these users
    only where they are named."""
    version, content = load_rules(connection, revision)
    org = load_org(connection, revision)
    world = load_world(connection, content, org, revision)
    identities = load_identities(connection, org, users, revision)
    made = assemble(revision, version, content, org, world, identities)
    return replace(made, admin_grants=load_admin_grants(connection, revision))


def with_users(
    before: Snapshot,
    revision: int,
    identities: Mapping[UUID, Identity],
    assignments: Mapping[Holder, tuple[AssignmentFact, ...]],
    held: Mapping[UUID, frozenset[tuple[str, str]]],
) -> Snapshot:
    """The snapshot with these users as they are now; everything else is shared."""
    world = replace(
        before.world,
        assignments=Overlay.of(before.world.assignments).with_entries(assignments),
        held_gains=Overlay.of(before.world.held_gains).with_entries(held),
    )
    users = {user_id: prepare(before.engine, world, identity) for user_id, identity in identities.items()}
    return replace(
        before,
        facts_revision=revision,
        world=world,
        users=before.users.with_entries(users),
        by_sub=before.by_sub.with_entries({identity.sub: user_id for user_id, identity in identities.items()}),
    )


def with_groups(before: Snapshot, revision: int, world: MappingWorld, identities: Mapping[UUID, Identity]) -> Snapshot:
    """The snapshot in a world whose groups, and with them what is held back, are others. `identities` are those who are
    in a group with a new name; whoever is in no group that has moved, nor in one below, is shared."""
    old, new = before.world.group_parents, world.group_parents
    moved = {child for child in old.keys() | new.keys() if old.get(child) != new.get(child)}
    below = _below(moved, old, new)
    gains = before.world.held_gains
    persons = {one for one in (*gains, *world.held_gains) if gains.get(one, _NONE) != world.held_gains.get(one, _NONE)}
    changed = {
        user_id: user.identity
        for user_id, user in before.users.items()
        if user.person_id in persons or user_id in identities or not below.isdisjoint(user.identity.facts.groups)
    }
    users = {
        user_id: prepare(before.engine, world, identities.get(user_id, identity))
        for user_id, identity in changed.items()
    }
    return replace(before, facts_revision=revision, world=world, users=before.users.with_entries(users))


def _below(moved: Collection[str], *nestings: Mapping[str, Sequence[str]]) -> set[str]:
    """These groups and all that are in them, by any of the nestings (group → what it is directly in)."""
    children: dict[str, list[str]] = {}
    for nesting in nestings:
        for child, parents in nesting.items():
            for parent in parents:
                children.setdefault(parent, []).append(child)
    found, waiting = set(moved), list(moved)
    while waiting:
        fresh = set(children.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def assemble(
    revision: int,
    version: int,
    content: RuleSetInput,
    org: Mapping[str, Sequence[str]],
    world: MappingWorld,
    identities: Mapping[UUID, Identity],
    engine: Engine | None = None,
) -> Snapshot:
    """A snapshot of these facts under these rules; pure, so a draft is previewed by the same function. `engine` is
    one of these rules and this `org`, where the caller has one already."""
    engine = engine or engine_of(content, version, org)
    shared: dict[Derivation, Derivation] = {}
    users = {user_id: prepare(engine, world, identity, shared) for user_id, identity in identities.items()}
    return Snapshot(
        facts_revision=revision,
        policy_version=version,
        content=content,
        engine=engine,
        world=world,
        org=org,
        users=Overlay(users),
        by_sub=Overlay({identity.sub: user_id for user_id, identity in identities.items()}),
        admin_grants={},
    )


def engine_of(content: RuleSetInput, version: int, org: Mapping[str, Sequence[str]]) -> Engine:
    """The engine of these rules, with the console's own."""
    return Engine(rules.rule_set(content, version, BUILT_IN_PERMISSIONS), org)


def prepare(
    engine: Engine, world: MappingWorld, identity: Identity, shared: dict[Derivation, Derivation] | None = None
) -> SnapshotUser:
    """The identity ready to be decided about. Users who are in the same group have equal derivations: with `shared`
    they hold the same ones."""
    derivations = derive(identity.facts, world)
    if shared is not None:
        derivations = tuple(shared.setdefault(one, one) for one in derivations)
    subject = engine.subject(
        subject_id=identity.sub,
        person=str(identity.person_id),
        state=identity.state,
        grants=tuple(one.grant for one in derivations),
        properties=identity.facts.attributes,
        valid_until=identity.valid_until,
    )
    return SnapshotUser(identity, derivations, subject)
