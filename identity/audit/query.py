"""Search in the record: by key paging, with the time to which the answer is complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

Key = tuple[datetime, UUID, int]
"""Where a row stands: time, record id, item."""
PAGE_MAX = 200
WAYS_MAX = 20
WORDS_MAX = 16
BEGUN_MAX = 4
FEW = 1_000
LAST = "\U0010ffff"


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
    next: Key | None
    complete_to: datetime | None


def search(connection: Connection, wanted: Filter, after: Key | None = None, limit: int = 50) -> Page:
    """The newest records that match, behind the key `after`.

    A text is found as words, all of them (`zhang*` = a word that begins so), or as the whole id of an object; of a long
    text the first sixteen words and four beginnings count.
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


def _newest(connection: Connection, wanted: Filter, after: Key | None, limit: int) -> list[Any]:
    find = AuditFind.__table__
    conditions = _conditions(wanted)
    text = (wanted.text or "").strip()
    if not text:
        return list(connection.execute(_page(select(find).where(*conditions), AuditFind, wanted, after, limit)))
    named = select(find).where(*conditions, AuditFind.resource_id == clip(text))
    rows = list(connection.execute(_page(named, AuditFind, wanted, after, limit)))
    rows += _worded(connection, wanted, text, after, limit)
    unique = {(row.at, row.record_id, row.item): row for row in rows}
    return [unique[key] for key in sorted(unique, reverse=True)[:limit]]


def _conditions(wanted: Filter) -> list[Any]:
    find = AuditFind
    conditions = _indexed(wanted)
    conditions += [find.reason == wanted.reason] if wanted.reason is not None else []
    conditions += [find.request_id == wanted.request_id] if wanted.request_id is not None else []
    if wanted.without_permits_of is not None:
        other = find.application.is_distinct_from(wanted.without_permits_of)
        conditions.append(or_(other, find.result != "permit"))
    if wanted.result is not None and wanted.result not in RARE_RESULTS:
        conditions.append(find.result == wanted.result)
    return conditions


def _indexed(wanted: Filter) -> list[Any]:
    """The conditions that have an index."""
    find = AuditFind
    conditions = [
        column == value
        for column, value in (
            (find.person, wanted.person),
            (find.application, wanted.application),
            (find.resource_id, wanted.resource_id and clip(wanted.resource_id)),
            (find.kind, wanted.kind),
        )
        if value is not None
    ]
    if wanted.result in RARE_RESULTS:
        # A partial index is chosen by its own condition, written out.
        conditions.append(and_(find.result == wanted.result, RARE))
    return conditions


def _worded(connection: Connection, wanted: Filter, text: str, after: Key | None, limit: int) -> list[Any]:
    """The newest rows with all words of the text. What has the fewest rows leads, and the rest is asked of each of
    those: a word, or, where all words are common, another filter."""
    whole, begun = _words_of(text)
    counts = {word: _up_to_few(connection, AuditWord.word == word, AuditWord) for word in whole}
    leading = min(whole, key=lambda word: (counts[word], -len(word)), default=None)
    if leading is None and not begun:
        return []
    common = leading is None or counts[leading] == FEW
    if common and any(_up_to_few(connection, one, AuditFind) < FEW for one in _indexed(wanted)):
        few = _page(select(AuditFind.__table__).where(*_conditions(wanted)), AuditFind, wanted, after, FEW).subquery()
        rest = _also(connection, whole, begun, few.c)
        return list(connection.execute(_newest_first(select(few).where(*rest), few.c).limit(limit)))
    if leading is None:
        leading, *begun = sorted(begun, key=len, reverse=True)
        endings = _endings(connection, leading)
        if endings is None:
            query = select(AuditFind.__table__).join(AuditWord, _of_record(AuditWord))
            rest = _also(connection, (), begun, AuditWord)
            query = query.where(*_conditions(wanted), _begins(AuditWord, leading), *rest)
            return list(connection.execute(_page(query, AuditWord, wanted, after, limit)))
    else:
        endings = [leading]
        whole.remove(leading)
    return [row for word in endings for row in _by_word(connection, word, (whole, begun), wanted, after, limit)]


def _by_word(
    connection: Connection,
    word: str,
    rest: tuple[Sequence[str], Sequence[str]],
    wanted: Filter,
    after: Key | None,
    limit: int,
) -> list[Any]:
    """The newest rows with this word that fulfil the rest. Of some of the word's rows after the other it is asked, so
    that neither a rest that nearly all fulfil nor one that hardly any does makes the database read them all first."""
    mine = select(AuditWord.at, AuditWord.record_id, AuditWord.item).where(AuditWord.word == word)
    size = FEW
    rows: list[Any] = []
    while True:
        part = _page(mine, AuditWord, wanted, after, size).subquery()
        query = select(AuditFind.__table__).join(part, _of_record(part.c)).where(*_conditions(wanted))
        query = query.where(*_also(connection, *rest, part.c, after))
        rows += connection.execute(_newest_first(query, part.c).limit(limit - len(rows)))
        if len(rows) >= limit:
            return rows
        last = connection.execute(_page(mine, AuditWord, wanted, after, 1).offset(size - 1)).first()
        if last is None:
            return rows
        after, size = (last.at, last.record_id, last.item), 8 * size


def _words_of(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and the beginnings of words."""
    whole: list[str] = []
    begun: list[str] = []
    for part in text.split():
        *others, last = words(part) or ("",)
        whole += others
        if last:
            (begun if part.endswith("*") else whole).append(last)
    return list(dict.fromkeys(whole))[:WORDS_MAX], list(dict.fromkeys(begun))[:BEGUN_MAX]


def _up_to_few(connection: Connection, condition: Any, of: Any) -> int:
    """How many rows the condition has, counted to `FEW`."""
    rows = select(of.record_id).where(condition).limit(FEW).subquery()
    return connection.execute(select(func.count()).select_from(rows)).scalar_one()


def _also(
    connection: Connection, whole: Sequence[str], begun: Sequence[str], of: Any, after: Key | None = None
) -> list[Any]:
    """That the row of this key, which lies behind `after`, has these words too."""
    conditions = []
    for word in (*whole, *begun):
        other = aliased(AuditWord)
        endings = _endings(connection, word) if word in begun else [word]
        ways = _begins(other, word) if endings is None else other.word.in_(endings)
        if after is not None:  # the database does not see that the same key lies behind it too
            ways = and_(ways, _place(other) < after)
        conditions.append(exists().where(ways, *_same(other, of)))
    return conditions


def _endings(connection: Connection, beginning: str) -> list[str] | None:
    """The words that begin so, where they are few: the newest records of each are found by key."""
    found: list[str] = []
    while len(found) <= WAYS_MAX:
        behind = AuditWord.word > found[-1] if found else AuditWord.word >= beginning
        query = select(func.min(AuditWord.word)).where(behind, AuditWord.word < beginning + LAST)
        following = connection.execute(query).scalar()
        if following is None:
            return found
        found.append(following)
    return None


def _begins(of: Any, beginning: str) -> Any:
    return and_(of.word >= beginning, of.word < beginning + LAST)


def _of_record(of: Any) -> Any:
    """By the key alone: with the time beside it PostgreSQL would expect hardly a row, and sort them all for the first
    fifty."""
    return and_(of.record_id == AuditFind.record_id, of.item == AuditFind.item)


def _same(left: Any, right: Any) -> tuple[Any, ...]:
    return left.at == right.at, left.record_id == right.record_id, left.item == right.item


def _place(of: Any) -> Any:
    return tuple_(of.at, of.record_id, of.item)


def _page(query: Any, of: Any, wanted: Filter, after: Key | None, limit: int) -> Any:
    """The newest `limit` rows of the query, by the key of this table."""
    if wanted.since:
        query = query.where(of.at >= wanted.since)
    if wanted.until:
        query = query.where(of.at < wanted.until)
    if after is not None:
        query = query.where(_place(of) < after)
    return _newest_first(query, of).limit(limit)


def _newest_first(query: Any, of: Any) -> Any:
    return query.order_by(of.at.desc(), of.record_id.desc(), of.item.desc())


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
