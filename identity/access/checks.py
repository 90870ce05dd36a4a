"""Checks of versions: asked for by an administrator, carried out here or by the worker, kept with what they found."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from identity.access.decide import Access
from identity.access.replays import replay_decisions
from identity.access.snapshot import Snapshot
from identity.access.whatif import compare_versions
from identity.audit.kinds import Kind
from identity.core.bulk import insert_rows
from identity.core.db import Database
from identity.core.ending import ending
from identity.core.errors import Conflict, Invalid, NotFound, Unavailable
from identity.core.record import Actor, Record
from identity.core.unit import Unit, Units
from identity.people.models import PersonProfile, User
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.models import PolicyVersion
from identity.roles.models_drafts import PolicyCheck, PolicyCheckRow, PolicyDraft
from identity.roles.service_policy import digest, load_rules

# So many users are compared while the page waits; more are the worker's.
USERS_AT_ONCE = 2_000
WAITING_MAX = 20
ROWS_AT_ONCE = 5_000
DAYS_MAX = 366
# Far longer than a replay may take: what has run for longer was left by a process that died.
LEFT_S = 1_800
KEPT_DAYS = 90

_log = logging.getLogger(__name__)


def ask(unit: Unit, kind: str, before: int, after: int, days: int | None = None) -> PolicyCheck:
    """A check that waits for its turn; recorded. `before` 0 = no rules; a replay answers under `after` and says of each
    answer whether `before` gives it as well.

    Raises `NotFound` for an unknown version, `Invalid` for a replay of no or too many days, `Conflict` when too many
    checks wait.
    """
    unit.require("read", "policy", str(after))
    if (
        kind not in {"compare", "replay"}
        or (kind == "replay") != (days is not None)
        or not 1 <= (days or 1) <= DAYS_MAX
    ):
        raise Invalid("The form is not complete.", code="form")
    if any(one and unit.db.get(PolicyVersion, one) is None for one in (before, after)) or not after:
        raise NotFound("There is no such policy version.")
    waiting = (
        select(func.count())
        .select_from(PolicyCheck)
        .where(PolicyCheck.kind == kind, PolicyCheck.state.in_(("queued", "running")))
    )
    if unit.db.execute(waiting).scalar_one() >= WAITING_MAX:
        raise Conflict("Many checks are waiting already. Please try again later.", code="checks_waiting")
    row = PolicyCheck(
        kind=kind,
        state="queued",
        before_version=before,
        after_version=after,
        after_digest=digest(load_rules(unit, after)),
        days=days,
        asked_by=unit.actor.id,
        asked_at=unit.now,
        counts={},
    )
    unit.db.add(row)
    unit.db.flush()
    unit.record(
        Record(
            kind=Kind.POLICY_CHECKED,
            result="success",
            resource_type="policy",
            resource_id=str(after),
            data={"check": str(row.id), "kind": kind, "before": before, "days": days},
        )
    )
    return row


def carry_out(
    units: Units, database: Database, snapshot: Snapshot, check_id: UUID, actor: Actor, now: datetime
) -> None:
    """Make the check and keep what it found; one that fails says so, one that could not be made now waits again.
    Nothing happens when another process has it."""
    with units.open(actor, now=now, follow=False) as unit:
        taken = unit.db.execute(
            update(PolicyCheck)
            .where(PolicyCheck.id == check_id, _is_free(now))
            .values(state="running", done_at=now)
            .returning(PolicyCheck.id)
        ).first()
        if taken is not None:
            unit.db.execute(delete(PolicyCheckRow).where(PolicyCheckRow.check_id == check_id))
    if taken is None:
        return
    values: dict[str, Any]
    try:
        with database.read(consistent=True) as connection:
            values, rows = _find(connection, snapshot, check_id, now)
        # In pieces, so that nobody else waits long to write.
        for start in range(0, len(rows), ROWS_AT_ONCE):
            with units.open(actor, now=now, follow=False) as unit:
                piece = rows[start : start + ROWS_AT_ONCE]
                insert_rows(unit.db.connection(), PolicyCheckRow, [{"check_id": check_id, **one} for one in piece])
    except Unavailable:
        values = {"state": "queued"}
    except Exception:  # noqa: BLE001  one that fails must not be tried for ever, nor hold up the others
        _log.exception("policy check %s failed", check_id)
        values = {"state": "failed", "error": "failed"}
    with units.open(actor, now=now, follow=False) as unit:
        unit.db.execute(update(PolicyCheck).where(PolicyCheck.id == check_id).values(done_at=now, **values))


def carry_out_waiting(units: Units, database: Database, access: Access, now: datetime) -> None:
    """The worker's job: every check that waits, the oldest first, and those that a killed process left."""
    with database.read() as connection:
        query = select(PolicyCheck.id).where(_is_free(now))
        waiting = list(connection.execute(query.order_by(PolicyCheck.asked_at)).scalars())
    ended = ending()
    for check_id in waiting:
        if ended():
            return
        carry_out(units, database, access.snapshot(), check_id, Actor.system("worker:policy-checks"), now)


def forget_rows(units: Units, now: datetime, days: int = KEPT_DAYS) -> None:
    """Rows say of each person what he holds; after this many days they go, the counts stay. Those of a draft that is
    still open are kept: a second person has to look at them."""
    rows = exists().where(PolicyCheckRow.check_id == PolicyCheck.id)
    is_open = exists().where(
        PolicyDraft.version == PolicyCheck.after_version, PolicyDraft.state.in_(("editing", "proposed"))
    )
    with units.open(Actor.system("worker:policy-checks"), now=now) as unit:
        old = unit.db.execute(
            select(PolicyCheck).where(PolicyCheck.asked_at < now - timedelta(days=days), rows, ~is_open)
        ).scalars()
        for check in old.all():
            unit.db.execute(delete(PolicyCheckRow).where(PolicyCheckRow.check_id == check.id))
            check.counts = {**check.counts, "kept": 0}


def _is_free(now: datetime) -> ColumnElement[bool]:
    """A check that nobody carries out: `done_at` is when one that runs was begun."""
    left = and_(PolicyCheck.state == "running", PolicyCheck.done_at < now - timedelta(seconds=LEFT_S))
    return or_(PolicyCheck.state == "queued", left)


def _find(
    connection: Connection, snapshot: Snapshot, check_id: UUID, now: datetime
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    check = connection.execute(select(PolicyCheck.__table__).where(PolicyCheck.id == check_id)).one()
    before = check.before_version, _content(connection, check.before_version)
    after = check.after_version, _content(connection, check.after_version)
    if digest(after[1]) != check.after_digest:
        return {"state": "failed", "error": "draft_changed"}, []
    if check.kind == "compare":
        found = compare_versions(snapshot, before, after, now)
        counts = found.counts()
    else:
        replayed = replay_decisions(connection, before, after, check.days, now, time.monotonic)
        found, counts = replayed.found, replayed.counts()
    return {"state": "done", "counts": counts, "facts_revision": snapshot.facts_revision}, found.rows


def _content(connection: Connection, version: int) -> RuleSetInput:
    return rules.load(connection, version) if version else RuleSetInput()


def get_check(connection: Connection, check_id: UUID) -> Any:
    """Raises `NotFound`."""
    row = connection.execute(select(PolicyCheck.__table__).where(PolicyCheck.id == check_id)).first()
    if row is None:
        raise NotFound("There is no such check.")
    return row


def checks_of(connection: Connection, version: int, current: int) -> dict[str, Any]:
    """The newest check of each kind of this version against the one in force, of the rules that it has now or had."""
    query = (
        select(PolicyCheck.__table__)
        .where(PolicyCheck.after_version == version, PolicyCheck.before_version == current)
        .order_by(PolicyCheck.asked_at)
    )
    return {row.kind: row for row in connection.execute(query)}


def rows_of(
    connection: Connection, check_id: UUID, wanted: Mapping[str, str], after: int = 0, limit: int | None = None
) -> list[Any]:
    """Rows of a check in their order, behind number `after`, with login and name. `wanted` narrows: application, kind,
    change and name exactly, `q` is part of the role's, right's, user's or person's name."""
    row = PolicyCheckRow
    query = (
        select(row.__table__, User.login, User.person_id, PersonProfile.name.label("person"))
        .outerjoin(User, User.id == row.user_id)
        .outerjoin(PersonProfile, PersonProfile.person_id == User.person_id)
        .where(row.check_id == check_id, row.n > after)
        .order_by(row.n)
    )
    for name in ("application", "kind", "change", "name"):
        if wanted.get(name):
            query = query.where(getattr(row, name) == wanted[name])
    text = wanted.get("q", "").strip()
    if text:
        columns = (row.name, User.login, PersonProfile.name)
        query = query.where(or_(*(func.lower(one).contains(text.lower(), autoescape=True) for one in columns)))
    return list(connection.execute(query if limit is None else query.limit(limit)))


def groups_of(connection: Connection, check_id: UUID, limit: int) -> list[Any]:
    """What the most users gain or lose: (application, kind, name, change, users) of the kept rows."""
    row = PolicyCheckRow
    users = func.count(row.user_id.distinct()).label("users")
    query = (
        select(row.application, row.kind, row.name, row.change, users)
        .where(row.check_id == check_id)
        .group_by(row.application, row.kind, row.name, row.change)
        .order_by(users.desc(), row.application, row.kind.desc(), row.name, row.change)
    )
    return list(connection.execute(query.limit(limit)))
