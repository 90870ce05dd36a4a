"""Search in the record: by key paging, with the time to which the answer is complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, and_, or_, select, tuple_

from identity.audit.index import words
from identity.audit.models import AuditFind, AuditFindProgress, AuditPersonal, AuditRecord

PAGE_MAX = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; None = anything. `since` inclusive, `until` exclusive."""

    person: UUID | None = None
    application: str | None = None
    resource_id: str | None = None
    kind: str | None = None
    result: str | None = None
    reason: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A found record, or an item of one."""

    id: UUID
    item: int
    at: datetime
    kind: str
    result: str
    reason: str
    application: str | None
    resource_type: str | None
    resource_id: str | None
    action: str | None
    raw: bytes
    """The record as it is stored and hashed; empty when it was purged."""
    personal: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        """The record's content."""
        return orjson.loads(self.raw) if self.raw else {}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of found records, newest first; `next` is the key of the page after it."""

    rows: tuple[Row, ...]
    next: tuple[datetime, UUID, int] | None
    complete_to: datetime | None


def search(
    connection: Connection, wanted: Filter, after: tuple[datetime, UUID, int] | None = None, limit: int = 50
) -> Page:
    """The newest records that match, behind the key `after`."""
    limit = max(1, min(limit, PAGE_MAX))
    find = AuditFind
    conditions: list[Any] = []
    for column, value in (
        (find.person, wanted.person),
        (find.application, wanted.application),
        (find.resource_id, wanted.resource_id),
        (find.kind, wanted.kind),
        (find.result, wanted.result),
        (find.reason, wanted.reason),
        (find.request_id, wanted.request_id),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.since:
        conditions.append(find.at >= wanted.since)
    if wanted.until:
        conditions.append(find.at < wanted.until)
    tokens = words(wanted.text or "").split()
    conditions.extend(find.words.contains(f" {token}", autoescape=True) for token in tokens)
    if after is not None:
        at, record_id, item = after
        conditions.append(
            or_(
                find.at < at,
                and_(find.at == at, find.record_id < record_id),
                and_(find.at == at, find.record_id == record_id, find.item < item),
            )
        )
    query = (
        select(AuditFind.__table__)
        .where(*conditions)
        .order_by(find.at.desc(), find.record_id.desc(), find.item.desc())
        .limit(limit + 1)
    )
    rows = list(connection.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    bodies = _bodies(connection, rows)
    personal = _personal(connection, rows)
    found = tuple(_row(row, bodies.get(row.record_id, b""), personal.get(row.record_id, {})) for row in rows)
    last = (rows[-1].at, rows[-1].record_id, rows[-1].item) if more else None
    return Page(found, last, complete_to(connection))


def read(connection: Connection, record_id: UUID) -> Row | None:
    """One whole record."""
    row = connection.execute(
        select(AuditFind.__table__).where(AuditFind.record_id == record_id, AuditFind.item == 0)
    ).first()
    if row is None:
        return None
    bodies, personal = _bodies(connection, [row]), _personal(connection, [row])
    return _row(row, bodies.get(record_id, b""), personal.get(record_id, {}))


def complete_to(connection: Connection) -> datetime | None:
    """Everything recorded before this time can be found."""
    return connection.execute(select(AuditFindProgress.complete_to)).scalar_one_or_none()


def _bodies(connection: Connection, rows: list[Any]) -> dict[UUID, bytes]:
    keys = {(row._mapping["class"], row.at, row.record_id) for row in rows}
    key = tuple_(AuditRecord.retention_class, AuditRecord.at, AuditRecord.id)
    query = select(AuditRecord.id, AuditRecord.body).where(key.in_(keys))
    return {record_id: bytes(body) for record_id, body in connection.execute(query)}


def _personal(connection: Connection, rows: list[Any]) -> dict[UUID, dict[str, str]]:
    found: dict[UUID, dict[str, str]] = {}
    keys = {(row._mapping["class"], row.at, row.record_id) for row in rows}
    key = tuple_(AuditPersonal.retention_class, AuditPersonal.at, AuditPersonal.record_id)
    query = select(AuditPersonal.__table__).where(key.in_(keys))
    for row in connection.execute(query):
        if row.value is not None:
            found.setdefault(row.record_id, {})[row.field] = row.value
    return found


def _row(row: Any, raw: bytes, personal: dict[str, str]) -> Row:
    return Row(
        id=row.record_id,
        item=row.item,
        at=row.at,
        kind=row.kind,
        result=row.result,
        reason=row.reason,
        application=row.application,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        action=row.action,
        raw=raw,
        personal=personal,
    )
