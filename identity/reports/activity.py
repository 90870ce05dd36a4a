"""Rows about what happened, from the record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, func, or_, select

from identity.audit.kinds import Kind
from identity.audit.models import AuditFind, AuditRecord
from identity.audit.sentence import sentence
from identity.login.models import LoginSession
from identity.people.models import User
from identity.reports.holdings import person_names

if TYPE_CHECKING:
    from identity.reports.catalogue import Source

# Access that hung on a disabled identity ends within this time or counts as still open.
AFTERMATH = timedelta(days=1)
_PRIVILEGED = ("roles.", "apps.", "keys.", "sync.directory", "shipping.", "people.user", "audit.retention")


def leavers(source: Source) -> Iterator[tuple[Any, ...]]:
    """One row for each identity that was disabled, with its cause and when its last session ended."""
    names = person_names(source.connection)
    logins = {row.id: (row.login, row.person_id) for row in source.connection.execute(select(User.__table__))}
    for user_id, at, body in _records(source, AuditFind.kind == Kind.USER_DISABLED):
        if user_id not in logins:
            continue
        login, person = logins[user_id]
        ended = source.connection.execute(
            select(func.count().label("sessions"), func.max(AuditFind.at).label("last")).where(
                AuditFind.kind == Kind.SESSION_ENDED,
                AuditFind.user_id == user_id,
                AuditFind.at >= at,
                AuditFind.at < at + AFTERMATH,
            )
        ).one()
        still = source.connection.execute(
            select(func.count()).where(
                LoginSession.user_id == user_id,
                LoginSession.created_at <= at,
                LoginSession.ended_at.is_(None),
                LoginSession.expires_at > source.until,
            )
        ).scalar_one()
        last: datetime | None = ended.last
        minutes = round((last - at).total_seconds() / 60, 2) if last is not None else 0
        cause = (body.get("after") or {}).get("cause", "")
        yield (names.get(person, ""), login, at, cause, ended.sessions, last, minutes, still)


def dormant(source: Source) -> Iterator[tuple[Any, ...]]:
    """Active identities that are older than the period and did not sign in during it."""
    last = dict(
        source.connection.execute(
            select(AuditFind.user_id, func.max(AuditFind.at))
            .where(AuditFind.kind == Kind.SESSION_STARTED, AuditFind.user_id.is_not(None))
            .group_by(AuditFind.user_id)
        ).all()
    )
    names = person_names(source.connection)
    rows = source.connection.execute(select(User.__table__).where(User.created_at < source.since).order_by(User.login))
    for row in rows:
        seen: datetime | None = last.get(row.id)
        if source.snapshot.is_active(row.id, source.until) and (seen is None or seen < source.since):
            yield (names.get(row.person_id, ""), row.login, row.created_at, seen)


def privileged(source: Source) -> Iterator[tuple[Any, ...]]:
    """Changes that a person made (not the sync, not a job), oldest first."""
    wanted = or_(*(AuditFind.kind.startswith(prefix) for prefix in _PRIVILEGED))
    for _, at, body in _records(source, wanted):
        if body["actor"]["kind"] == "user":
            thing = " ".join(filter(None, (body.get("resource_type"), body.get("resource_id"))))
            yield (
                *(at, body["actor"]["name"], sentence(body), thing, body["result"]),
                *(body.get("why", ""), body.get("reference", "")),
            )


def _records(source: Source, wanted: Any) -> Iterator[tuple[UUID | None, datetime, dict[str, Any]]]:
    """(user, time, body) of the records of the period that match, oldest first."""
    connection: Connection = source.connection
    query = (
        select(AuditFind.user_id, AuditFind.at, AuditRecord.body)
        .join(
            AuditRecord,
            (AuditRecord.retention_class == AuditFind.retention_class)
            & (AuditRecord.at == AuditFind.at)
            & (AuditRecord.id == AuditFind.record_id),
        )
        .where(wanted, AuditFind.item == 0, AuditFind.at >= source.since, AuditFind.at < source.until)
        .order_by(AuditFind.at, AuditFind.record_id)
        .execution_options(yield_per=1_000)
    )
    for user_id, at, body in connection.execute(query):
        yield user_id, at, orjson.loads(body)
