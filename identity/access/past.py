"""Who had what on a day: the snapshot of what held at its end, as it was known then or as it is known today."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from uuid import UUID

from sqlalchemy import Connection, func, select

from identity.access.snapshot import Snapshot, SnapshotUser, assemble, load
from identity.access.subject import load_identities, load_org, load_rules, load_world
from identity.core.errors import Invalid, NotFound
from identity.core.facts import Counter, FactRevision
from policies import Grant, is_valid


@dataclass(frozen=True, slots=True)
class Past:
    """What held at `moment`. The rules are those in force then; the facts are those of `snapshot.facts_revision`."""

    moment: datetime
    as_known_today: bool
    snapshot: Snapshot

    def holdings(self) -> Iterator[tuple[SnapshotUser, Grant, tuple[str, ...]]]:
        """Each grant of each user who could act then, by login, with the steps that led to it; of a role that comes
        by inheritance the senior role's grant, with one step more."""
        for user in sorted(self.snapshot.users.values(), key=lambda one: one.login):
            if self.snapshot.is_active(user.id, self.moment):
                for grant, steps in held_at(self.snapshot, user, self.moment):
                    yield user, grant, steps


def held_at(snapshot: Snapshot, user: SnapshotUser, moment: datetime) -> Iterator[tuple[Grant, tuple[str, ...]]]:
    """The user's grants that are valid at the moment, inherited roles too, with their steps."""
    for one in user.derivations:
        grant = one.grant
        if not is_valid(grant.valid_from, grant.valid_until, moment):
            continue
        yield grant, one.steps
        for junior in sorted(snapshot.engine.juniors_of(grant.role) - {grant.role}):
            yield replace(grant, role=junior), (*one.steps, f"role:{junior}")


def end_of(day: date, zone: tzinfo, now: datetime) -> datetime:
    """The last moment of the local day; now, for today. Raises `Invalid` for a day to come."""
    end = datetime.combine(day + timedelta(days=1), time(), zone) - timedelta(microseconds=1)
    if now < datetime.combine(day, time(), zone):
        raise Invalid("This day has not come yet.", code="day_to_come")
    return min(end, now)


def at_day(
    connection: Connection,
    day: date,
    zone: tzinfo,
    now: datetime,
    *,
    as_known_today: bool = False,
    users: Collection[UUID] | None = None,
) -> Past:
    """What held at the end of that local day, of all or of these users; with `as_known_today`, by the facts that stand
    today. Raises `NotFound` for a day before the first fact, `Invalid` for one to come."""
    moment = end_of(day, zone, now)
    query = select(func.max(FactRevision.revision)).where(FactRevision.at <= moment)
    revision = connection.execute(query).scalar_one_or_none()
    if revision is None:
        raise NotFound("Nothing is known of this day: it lies before the first facts.")
    if not as_known_today:
        return Past(moment, False, load(connection, revision, users))
    version, content = load_rules(connection, revision)
    latest = connection.execute(select(Counter.facts_revision)).scalar_one()
    org = load_org(connection, latest)
    world = load_world(connection, content, org, latest)
    identities = load_identities(connection, org, users, latest)
    return Past(moment, True, assemble(latest, version, content, org, world, identities))


def way(steps: Iterable[str], role: str) -> str:
    """How a role came about, for a table: "group:dept-rd → group:all-employees → role:business:employee", without the
    ids of rows and without the role itself."""
    shown = (one for one in steps if one != f"role:{role}" and not one.startswith("mapping:"))
    return " → ".join("assignment" if one.startswith("assignment:") else one for one in shown)
