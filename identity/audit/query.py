"""Search in the record: by key paging, with the time to which the answer is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, exists, func, or_, select
from sqlalchemy.orm import aliased

from identity.audit.bulk import among
from identity.audit.index import clip, searched, words
from identity.audit.leads import (
    LAST,
    PARTS,
    ByBeginning,
    ByColumn,
    ByTime,
    ByWords,
    Key,
    Lead,
    Rest,
    Span,
    begins,
    key_of,
    look,
    sparsest,
)
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
ENDINGS_MAX = 20
WORDS_MAX = 16
BEGUN_MAX = 4
_COLUMNS = AuditFind.__table__.c


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
    """A page of found records, newest first; `next` is the key of the page after it.

    A search looks through a bounded number of rows. Where it stopped before the page was full, `searched_to` is the
    time to which it has looked, and `next` goes on from there. Such a page may be empty; the last is the one without
    `next`.
    """

    rows: tuple[Row, ...]
    next: Key | None
    complete_to: datetime | None
    searched_to: datetime | None = None


def search(
    connection: Connection,
    wanted: Filter,
    after: Key | None = None,
    limit: int = 50,
    parts: Sequence[int] = PARTS,
) -> Page:
    """The newest records that match, behind the key `after`; `parts` bounds how many rows are looked through.

    A text is found as words, all of them (`zhang*` = a word that begins so), or as the whole id of an object; of a long
    text the first sixteen words and four beginnings count.
    """
    limit = max(1, min(limit, PAGE_MAX))
    rows, stop = _newest(connection, wanted, after, limit + 1, parts)
    full, rows = len(rows) > limit, rows[:limit]
    stored = bodies(connection, map(_key, rows))
    personal = _personal(connection, rows)
    found = tuple(_row(row, stored.get(row.record_id, b""), personal.get(row.record_id, {})) for row in rows)
    if full:
        return Page(found, key_of(rows[-1]), complete_to(connection))
    return Page(found, stop, complete_to(connection), stop and stop[0])


def ids(connection: Connection, wanted: Filter, most: int, parts: Sequence[int] = PARTS) -> list[UUID]:
    """The first `most` of the records that match, newest first, each once; `parts` as in `search`."""
    found: dict[UUID, None] = {}
    after = None
    while len(found) < most:
        rows, after = _newest(connection, wanted, after, PAGE_MAX, parts)
        found.update(dict.fromkeys(row.record_id for row in rows))
        if after is None:
            break
    return list(found)[:most]


def _newest(
    connection: Connection, wanted: Filter, after: Key | None, limit: int, parts: Sequence[int]
) -> tuple[list[Any], Key | None]:
    """The newest rows that match, and the key to which these are all; None = there are no more."""
    span, text = Span(wanted.since, wanted.until, after), (wanted.text or "").strip()
    leads: list[Lead] = list(_leads(wanted)) or [ByTime()]
    if text:
        named = _named(connection, wanted, clip(text), span, limit, parts)
        return _merged([named, _worded(connection, wanted, text, span, limit, parts)], limit)
    if len(leads) == 1 and not _unindexed(wanted, _COLUMNS):
        rows = list(connection.execute(leads[0].newest(span, limit)))
        return rows, key_of(rows[-1]) if len(rows) == limit else None
    lead = sparsest(connection, leads, span, parts[0])
    return look(connection, lead, Rest(lambda of, *_: _conditions(wanted, of)), span, limit, parts)


def _named(
    connection: Connection, wanted: Filter, object_id: str, span: Span, limit: int, parts: Sequence[int]
) -> tuple[list[Any], Key | None]:
    """The newest rows of this object, as `_newest` gives them."""
    lead = sparsest(connection, [ByColumn(AuditFind.resource_id, object_id), *_leads(wanted)], span, parts[0])
    rest = Rest(lambda of, *_: [*_conditions(wanted, of), of.resource_id == object_id])
    return look(connection, lead, rest, span, limit, parts)


def _worded(
    connection: Connection, wanted: Filter, text: str, span: Span, limit: int, parts: Sequence[int]
) -> tuple[list[Any], Key | None]:
    """The newest rows with all words of the text, as `_newest` gives them. What has the fewest rows leads: a word, the
    beginning of one, another filter."""
    whole, begun = _words_of(text)
    endings = {one: _endings(connection, one) for one in begun}
    ways = [ByWords((one,)) for one in whole]
    ways += [ByWords(tuple(ended)) for ended in endings.values() if ended is not None]
    if not (whole or begun) or not all(way.words for way in ways):
        return [], None
    many = [ByBeginning(one) for one, ended in endings.items() if ended is None]
    leads: list[Lead] = [
        *ways,
        *_leads(wanted),
        *(one for one in many if _fewer(connection, one.beginning, sum(parts))),
    ]
    lead = sparsest(connection, leads or [ByTime()], span, parts[0])

    def conditions(of: Any, key: Any, within: Span) -> list[Any]:
        return _conditions(wanted, of) + [_has(way, key, within) for way in ways if way is not lead]

    unasked = tuple(one.beginning for one in many if one is not lead)
    fits = partial(_beginning, connection, unasked) if unasked else None
    return look(connection, lead, Rest(conditions, fits), span, limit, parts)


def _merged(found: Sequence[tuple[list[Any], Key | None]], limit: int) -> tuple[list[Any], Key | None]:
    """The newest of what several ways have found: nothing that is older than where one of them stopped."""
    stop = max((one for _, one in found if one is not None), default=None)
    unique = {key_of(row): row for rows, _ in found for row in rows}
    keys = sorted((key for key in unique if stop is None or key >= stop), reverse=True)
    return [unique[key] for key in keys[:limit]], stop


def _leads(wanted: Filter) -> list[ByColumn]:
    """What is wanted that has an index."""
    find = AuditFind
    leads = [
        ByColumn(column, value)
        for column, value in (
            (find.person, wanted.person),
            (find.application, wanted.application),
            (find.resource_id, wanted.resource_id and clip(wanted.resource_id)),
            (find.kind, wanted.kind),
        )
        if value is not None
    ]
    # A partial index is chosen by its own condition, written out.
    return [*leads, ByColumn(find.result, wanted.result, RARE)] if wanted.result in RARE_RESULTS else leads


def _conditions(wanted: Filter, of: Any) -> list[Any]:
    """All that is wanted of a row with these columns, but its time and its text."""
    return [of[lead.column.key] == lead.value for lead in _leads(wanted)] + _unindexed(wanted, of)


def _unindexed(wanted: Filter, of: Any) -> list[Any]:
    conditions = [of.reason == wanted.reason] if wanted.reason is not None else []
    conditions += [of.request_id == wanted.request_id] if wanted.request_id is not None else []
    if wanted.without_permits_of is not None:
        conditions.append(or_(of.application.is_distinct_from(wanted.without_permits_of), of.result != "permit"))
    if wanted.result is not None and wanted.result not in RARE_RESULTS:
        conditions.append(of.result == wanted.result)
    return conditions


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


def _fewer(connection: Connection, beginning: str, most: int) -> bool:
    """Whether words that begin so stand fewer than so many times in the index."""
    rows = select(AuditWord.record_id).where(begins(AuditWord, beginning)).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(rows)).scalar_one() < most


def _has(way: ByWords, key: Any, span: Span) -> Any:
    """That the row of this key has one of these words too."""
    other = aliased(AuditWord)
    same = (other.at == key.at, other.record_id == key.record_id, other.item == key.item)
    # The database does not see that the same key lies in the same span.
    return exists().where(other.word.in_(way.words), *same, *span.of(other))


def _beginning(connection: Connection, beginnings: tuple[str, ...], rows: Sequence[Any]) -> Iterator[Any]:
    """The rows that have a word with each of these beginnings, in their order. So many words begin so that it is told
    from the records themselves."""
    for start in range(0, len(rows), PAGE_MAX):
        piece = [row for row in rows[start : start + PAGE_MAX] if row.item == 0]  # an item has no words of its own
        stored, personal = bodies(connection, map(_key, piece)), _personal(connection, piece)
        for row in piece:
            body = orjson.loads(stored.get(row.record_id, b"{}"))
            values = " ".join(personal.get(row.record_id, {}).values())
            found = words(searched(row._mapping["class"], body, values)) if body else ()
            if all(any(word.startswith(one) for word in found) for one in beginnings):
                yield row


def _endings(connection: Connection, beginning: str) -> list[str] | None:
    """The words that begin so, where they are few."""
    found: list[str] = []
    while len(found) <= ENDINGS_MAX:
        behind = AuditWord.word > found[-1] if found else AuditWord.word >= beginning
        query = select(func.min(AuditWord.word)).where(behind, AuditWord.word < beginning + LAST)
        following = connection.execute(query).scalar()
        if following is None:
            return found
        found.append(following)
    return None


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
    columns = (AuditRecord.retention_class, AuditRecord.at, AuditRecord.id)
    query = select(AuditRecord.id, AuditRecord.body).where(among(connection, columns, keys))
    return {record_id: bytes(body) for record_id, body in connection.execute(query)}


def _key(row: Any) -> tuple[str, datetime, UUID]:
    return row._mapping["class"], row.at, row.record_id


def _personal(connection: Connection, rows: Sequence[Any]) -> dict[UUID, dict[str, str]]:
    found: dict[UUID, dict[str, str]] = {}
    columns = (AuditPersonal.retention_class, AuditPersonal.at, AuditPersonal.record_id)
    query = select(AuditPersonal.__table__).where(among(connection, columns, map(_key, rows)))
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
