"""The snapshot: rules and facts of one revision in memory, from which every decision is made.

A change of some users shares everything else with the snapshot before it. `Snapshots.current` raises `Unavailable`
when the process could not confirm its freshness within a second (foundations §5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from identity.access.console import BUILT_IN_PERMISSIONS
from identity.access.subject import (
    Identity,
    load_identities,
    load_org,
    load_rules,
    load_world,
)
from identity.core.db import Database
from identity.core.errors import Unavailable
from identity.core.facts import Counter
from identity.core.feed import Feed
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import Derivation, MappingWorld, derive
from policies import Engine, PreparedSubject


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
    users: Mapping[UUID, SnapshotUser]
    by_sub: Mapping[str, UUID]

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


class Snapshots:
    """Keeps the current snapshot true by the change feed."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed
        self._snapshot: Snapshot | None = None
        feed.subscribe(["user"], self._reload_users)
        feed.subscribe(["policy", "org", "group", "assignment"], lambda _: self.reload())

    def current(self) -> Snapshot:
        self._feed.confirm()
        if self._snapshot is None:
            raise Unavailable("The service is starting.", "snapshot is not loaded", code="starting")
        return self._snapshot

    def reload(self) -> None:
        """Build the whole snapshot from the tables."""
        with self._database.read(consistent=True) as connection:
            revision = connection.execute(select(Counter.facts_revision)).scalar_one()
            version, content = load_rules(connection)
            org = load_org(connection)
            world = load_world(connection, content)
            identities = load_identities(connection, org)
        self._snapshot = assemble(revision, version, content, org, world, identities)

    def _reload_users(self, ids: Sequence[str] | None) -> None:
        before = self._snapshot
        if ids is None or before is None:
            self.reload()
            return
        wanted = [UUID(one) for one in ids]
        with self._database.read(consistent=True) as connection:
            revision = connection.execute(select(Counter.facts_revision)).scalar_one()
            world = load_world(connection, before.content)
            identities = load_identities(connection, before.org, wanted)
        users = dict(before.users)
        subs = dict(before.by_sub)
        for user_id, identity in identities.items():
            users[user_id] = _prepare(before.engine, world, identity)
            subs[identity.sub] = user_id
        self._snapshot = replace(before, facts_revision=revision, world=world, users=users, by_sub=subs)


def assemble(
    revision: int,
    version: int,
    content: RuleSetInput,
    org: Mapping[str, Sequence[str]],
    world: MappingWorld,
    identities: Mapping[UUID, Identity],
) -> Snapshot:
    """A snapshot of these facts under these rules; pure, so a draft is previewed by the same function."""
    engine = Engine(rules.rule_set(content, version, BUILT_IN_PERMISSIONS), org)
    users = {user_id: _prepare(engine, world, identity) for user_id, identity in identities.items()}
    return Snapshot(
        facts_revision=revision,
        policy_version=version,
        content=content,
        engine=engine,
        world=world,
        org=org,
        users=users,
        by_sub={identity.sub: user_id for user_id, identity in identities.items()},
    )


def _prepare(engine: Engine, world: MappingWorld, identity: Identity) -> SnapshotUser:
    derivations = derive(identity.facts, world)
    subject = engine.subject(
        subject_id=identity.sub,
        person=str(identity.person_id),
        state=identity.state,
        grants=tuple(one.grant for one in derivations),
        properties=identity.facts.attributes,
        valid_until=identity.valid_until,
    )
    return SnapshotUser(identity, derivations, subject)
