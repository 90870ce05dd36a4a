"""Recorded decisions made again under a draft: which answers would be otherwise.

Each is made from its own record and the facts that were known then, so that only the rules differ. What is looked at
is bounded in number and in time, from the newest back; the counts say of how many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, func, or_, select

from identity.access.replay import Recorded, identities_of, recorded
from identity.access.snapshot import Snapshot, assemble, engine_of
from identity.access.subject import load_identities, load_org, load_world
from identity.access.whatif import Found
from identity.audit.bulk import unhurried
from identity.audit.kinds import Kind
from identity.audit.models import AuditFind
from identity.audit.query import bodies
from identity.core.ending import ending
from identity.core.errors import Unavailable
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import CONSOLE_APPLICATION, MappingWorld
from identity.roles.preview import world_with
from policies import Engine

SAMPLE_MAX = 20_000
SECONDS_MAX = 120.0
CHUNK = 500

Key = tuple[str, datetime, Any, int]
"""(class, time, record id, item) of a recorded decision; item 0 is a record of its own."""


@dataclass(slots=True)
class Replayed:
    """What a replay found. Of `of` decisions in the period `sample` were chosen, evenly, and `done` made again, back
    to the time `reached`; `unreadable` of them could not be (purged, or of another form)."""

    found: Found = field(default_factory=Found)
    of: int = 0
    sample: int = 0
    done: int = 0
    unreadable: int = 0
    reached: datetime | None = None

    def counts(self) -> dict[str, Any]:
        reached = self.reached.isoformat() if self.reached else None
        return {
            **self.found.counts(),
            "of": self.of,
            "sample": self.sample,
            "done": self.done,
            "unreadable": self.unreadable,
            "reached": reached,
        }


def replay_decisions(
    connection: Connection,
    in_force: tuple[int, RuleSetInput],
    draft: tuple[int, RuleSetInput],
    days: int,
    now: datetime,
    seconds: Callable[[], float],
    *,
    sample_max: int = SAMPLE_MAX,
    seconds_max: float = SECONDS_MAX,
) -> Replayed:
    """Make the decisions of the last `days` days again under the draft; `seconds` is a monotonic clock.

    A row's `before` is the recorded answer with its version, `after` the draft's answer with its reason. Where the
    rules in force would answer like the draft already, the row says so: its kind is `already`. Raises `Unavailable`
    when the process is asked to stop meanwhile.
    """
    unhurried(connection)
    result = Replayed()
    wanted = _decisions(now - timedelta(days=days))
    result.of = connection.execute(select(func.count()).select_from(AuditFind).where(wanted)).scalar_one()
    step = max(1, -(-result.of // sample_max))
    keys = _sample(connection, wanted, step)
    result.sample = len(keys)
    start, ended = seconds(), ending()
    drafted, current = _Rules(*draft), _Rules(*in_force)
    for first in range(0, len(keys), CHUNK):
        chunk = keys[first : first + CHUNK]
        stored = bodies(connection, [one[:3] for one in chunk])
        read = [(key, _read(stored.get(key[2]), key[3])) for key in chunk]
        for revision, group in groupby(read, key=lambda one: one[1].facts_revision if one[1] else None):
            items = list(group)
            if seconds() - start > seconds_max:
                return result
            if ended():
                raise Unavailable("The process was stopped.")
            if revision is None:
                result.unreadable += len(items)
            else:
                _compare(connection, drafted, current, revision, items, result)
            result.done += len(items)
            result.reached = items[-1][0][1]
    return result


class _Facts(NamedTuple):
    """What was known of some users at a revision, whatever the rules."""

    org: dict[str, tuple[str, ...]]
    world: MappingWorld
    identities: Any


class _Rules:
    """One version's rules, made ready once for every org tree that they are asked over."""

    def __init__(self, version: int, content: RuleSetInput) -> None:
        self.version, self.content = version, content
        self._mappings = rules.mapping_rules(content)
        self._engine: Engine | None = None
        self._org: dict[str, tuple[str, ...]] = {}

    def snapshot(self, revision: int, facts: _Facts) -> Snapshot:
        """These facts under these rules."""
        if self._engine is None or facts.org != self._org:
            self._engine, self._org = engine_of(self.content, self.version, facts.org), facts.org
        world = world_with(facts.world, self._mappings)
        return assemble(revision, self.version, self.content, facts.org, world, facts.identities, self._engine)


def _compare(
    connection: Connection,
    drafted: _Rules,
    current: _Rules,
    revision: int,
    items: list[tuple[Key, Recorded | None]],
    result: Replayed,
) -> None:
    concerned = {user for _, one in items if one for user in one.users}
    org = load_org(connection, revision)
    facts = _Facts(
        org,
        load_world(connection, RuleSetInput(), org, revision),
        load_identities(connection, org, identities_of(connection, concerned), revision),
    )
    under_draft = drafted.snapshot(revision, facts)
    under_current: Snapshot | None = None
    for key, one in items:
        if one is None:
            continue
        answer = one.asked(under_draft).answer()
        if answer.permit == one.permit:
            continue
        if under_current is None:
            under_current = current.snapshot(revision, facts)
        already = one.asked(under_current).answer().permit == answer.permit
        request = one.request
        result.found.add(
            {
                "user_id": request.user,
                "application": request.application,
                "kind": "already" if already else "decision",
                "name": f"{request.action} {request.resource_type} {request.resource_id}"[:500],
                "change": "permit" if answer.permit else "deny",
                "before": f"{'permit' if one.permit else 'deny'} v{one.policy_version}",
                "after": answer.reason,
                "record_id": key[2],
                "at": key[1],
            }
        )


def _decisions(since: datetime) -> Any:
    find = AuditFind
    single = and_(find.kind == Kind.DECISION_MADE, find.item == 0)
    batch = and_(find.kind == Kind.DECISIONS_MADE, find.item > 0)
    return and_(find.at >= since, find.application != CONSOLE_APPLICATION, or_(single, batch))


def _sample(connection: Connection, wanted: Any, step: int) -> list[Key]:
    """Every `step`th decision, the newest first."""
    find = AuditFind
    order = (find.at.desc(), find.record_id.desc(), find.item.desc())
    numbered = (
        select(
            find.retention_class.label("retention_class"),
            find.at,
            find.record_id,
            find.item,
            func.row_number().over(order_by=order).label("number"),
        )
        .where(wanted)
        .subquery()
    )
    columns = numbered.c
    query = select(columns.retention_class, columns.at, columns.record_id, columns.item).where(
        (columns.number - 1) % step == 0
    )
    rows = connection.execute(query.order_by(columns.number))
    return [(row[0], row.at, row.record_id, row.item) for row in rows]


def _read(body: bytes | None, item: int) -> Recorded | None:
    """The recorded decision, or None where the record is gone or is of a form that we do not read."""
    if body is None:
        return None
    try:
        return recorded(orjson.loads(body), item - 1 if item else None)
    except KeyError:
        return None
