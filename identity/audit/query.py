"""Search in the record: by key paging, with the time to which the answer is complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, and_, exists, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from identity.audit.index import clip, words
from identity.audit.models import (
    RARE,
    RARE_RESULTS,
    AuditFind,
    AuditFindProgress,
    AuditPersonal,
    AuditRecord,
    AuditWord,
)

PAGE_MAX = 200
WAYS_MAX = 20


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
    without_permits_of: str | None = None
    """An application whose permitted decisions are left out."""


@dataclass(frozen=True, slots=True)
class Row:
    """A found record, or an item of one."""

    id: UUID
    item: int
    at: datetime
    kind: str
    result: str
    reason: str
    person: UUID | None
    """The person whom it is about."""
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
    """The newest records that match, behind the key `after`.

    A text is found as words, all of them (`zhang*` = a word that begins so), or as the whole id of an object.
    """
    limit = max(1, min(limit, PAGE_MAX))
    rows = _newest(connection, wanted, after, limit + 1)
    more, rows = len(rows) > limit, rows[:limit]
    stored = bodies(connection, map(_key, rows))
    personal = _personal(connection, rows)
    found = tuple(_row(row, stored.get(row.record_id, b""), personal.get(row.record_id, {})) for row in rows)
    last = (rows[-1].at, rows[-1].record_id, rows[-1].item) if more else None
    return Page(found, last, complete_to(connection))


def ids(connection: Connection, wanted: Filter, most: int) -> list[UUID]:
    """The first `most` of the records that match, newest first, each once."""
    found: dict[UUID, None] = {}
    after = None
    while len(found) < most:
        rows = _newest(connection, wanted, after, PAGE_MAX)
        found.update(dict.fromkeys(row.record_id for row in rows))
        if len(rows) < PAGE_MAX:
            break
        after = (rows[-1].at, rows[-1].record_id, rows[-1].item)
    return list(found)[:most]


def _newest(connection: Connection, wanted: Filter, after: tuple[datetime, UUID, int] | None, limit: int) -> list[Any]:
    find = AuditFind.__table__
    conditions = _conditions(wanted)
    text = (wanted.text or "").strip()
    if not text:
        return list(connection.execute(_page(select(find).where(*conditions), AuditFind, wanted, after, limit)))
    named = select(find).where(*conditions, AuditFind.resource_id == clip(text))
    rows = list(connection.execute(_page(named, AuditFind, wanted, after, limit)))
    for query in _worded(connection, text):
        of_word = select(find).join(AuditWord, _of_record).where(*conditions, *query)
        rows += connection.execute(_page(of_word, AuditWord, wanted, after, limit))
    unique = {(row.at, row.record_id, row.item): row for row in rows}
    return [unique[key] for key in sorted(unique, reverse=True)[:limit]]


def _conditions(wanted: Filter) -> list[Any]:
    find = AuditFind
    conditions: list[Any] = []
    for column, value in (
        (find.person, wanted.person),
        (find.application, wanted.application),
        (find.resource_id, wanted.resource_id and clip(wanted.resource_id)),
        (find.kind, wanted.kind),
        (find.reason, wanted.reason),
        (find.request_id, wanted.request_id),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.without_permits_of is not None:
        other = find.application.is_distinct_from(wanted.without_permits_of)
        conditions.append(or_(other, find.result != "permit"))
    if wanted.result is not None:
        conditions.append(find.result == wanted.result)
        if wanted.result in RARE_RESULTS:
            # A partial index is chosen by its own condition, written out.
            conditions.append(RARE)
    return conditions


def _worded(connection: Connection, text: str) -> list[list[Any]]:
    """Conditions on `AuditWord`, for each way in which the leading word may stand there; all others are there too."""
    whole: list[str] = []
    begun: list[str] = []
    for part in text.split():
        *others, last = words(part) or ("",)
        whole += others
        if last:
            (begun if part.endswith("*") else whole).append(last)
    if not whole and not begun:
        return []
    # The longest is the rarest, most times; a beginning leads only where nothing else could.
    leading = max(whole or begun, key=len)
    conditions = []
    for word in (*whole, *begun):
        if word != leading:
            other = aliased(AuditWord)
            ways = _ways(connection, word, other) if word in begun else [other.word == word]
            conditions.append(exists().where(or_(*ways), *_same(other, AuditWord)))
    ways = [AuditWord.word == leading] if whole else _ways(connection, leading, AuditWord)
    return [[way, *conditions] for way in ways]


def _ways(connection: Connection, beginning: str, of: Any) -> list[Any]:
    """Conditions that together say: a word that begins so. Where there are few such words, each names one, and its
    newest records are found by key."""
    end = beginning + "\U0010ffff"
    found: list[str] = []
    while len(found) <= WAYS_MAX:
        behind = AuditWord.word > found[-1] if found else AuditWord.word >= beginning
        following = connection.execute(select(func.min(AuditWord.word)).where(behind, AuditWord.word < end)).scalar()
        if following is None:
            return [of.word == one for one in found]
        found.append(following)
    return [and_(of.word >= beginning, of.word < end)]


# By the key alone: with the time beside it PostgreSQL would expect hardly a row, and sort them all for the first fifty.
_of_record = and_(AuditWord.record_id == AuditFind.record_id, AuditWord.item == AuditFind.item)


def _same(left: Any, right: Any) -> tuple[Any, ...]:
    return left.at == right.at, left.record_id == right.record_id, left.item == right.item


def _place(of: Any) -> Any:
    return tuple_(of.at, of.record_id, of.item)


def _page(query: Any, of: Any, wanted: Filter, after: tuple[datetime, UUID, int] | None, limit: int) -> Any:
    """The newest `limit` rows of the query, by the key of this table."""
    if wanted.since:
        query = query.where(of.at >= wanted.since)
    if wanted.until:
        query = query.where(of.at < wanted.until)
    if after is not None:
        query = query.where(_place(of) < after)
    return query.order_by(of.at.desc(), of.record_id.desc(), of.item.desc()).limit(limit)


def read(connection: Connection, record_id: UUID) -> Row | None:
    """One whole record."""
    row = connection.execute(
        select(AuditFind.__table__).where(AuditFind.record_id == record_id, AuditFind.item == 0)
    ).first()
    if row is None:
        return None
    stored, personal = bodies(connection, [_key(row)]), _personal(connection, [row])
    return _row(row, stored.get(record_id, b""), personal.get(record_id, {}))


def complete_to(connection: Connection) -> datetime | None:
    """Everything recorded before this time can be found."""
    return connection.execute(select(AuditFindProgress.complete_to)).scalar_one_or_none()


def bodies(connection: Connection, keys: Iterable[tuple[str, datetime, UUID]]) -> dict[UUID, bytes]:
    """The records of these (class, time, id) as they are stored, by id; what was purged is left out."""
    key = tuple_(AuditRecord.retention_class, AuditRecord.at, AuditRecord.id)
    query = select(AuditRecord.id, AuditRecord.body).where(key.in_(set(keys)))
    return {record_id: bytes(body) for record_id, body in connection.execute(query)}


def _key(row: Any) -> tuple[str, datetime, UUID]:
    return row._mapping["class"], row.at, row.record_id


def _personal(connection: Connection, rows: list[Any]) -> dict[UUID, dict[str, str]]:
    found: dict[UUID, dict[str, str]] = {}
    keys = set(map(_key, rows))
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
        person=row.person,
        application=row.application,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        action=row.action,
        raw=raw,
        personal=personal,
    )
