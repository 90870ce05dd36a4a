"""What leads a search through the index, newest first, and how far one search looks.

A lead is what an index gives in the order of time: a filter's rows, a word's, or simply all. Every row of it is asked
for the rest. A rest that hardly any row fulfils must not make the database read them all, so a search looks through a
bounded number of them and says where it stopped; the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, select, tuple_, union

from identity.audit.models import AuditFind, AuditWord

Key = tuple[datetime, UUID, int]
"""Where a row stands: time, record id, item."""
PARTS = (1_000, 8_000, *(16_000,) * 4)
"""How many rows of its lead one search looks through, part after part: 73,000 in all. Each part is a statement, so that
none takes long even where every row must be fetched from disk."""
LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Span:
    """The rows with since <= time < until that lie behind the key `after`; None = no bound."""

    since: datetime | None
    until: datetime | None
    after: Key | None

    def of(self, table: Any) -> list[Any]:
        """The conditions on this table."""
        conditions = [table.at >= self.since] if self.since else []
        conditions += [table.at < self.until] if self.until else []
        return conditions + ([place(table) < self.after] if self.after is not None else [])

    def behind(self, after: Key) -> Span:
        """What of it lies behind this key."""
        return Span(self.since, self.until, after)


@dataclass(frozen=True, slots=True)
class ByTime:
    """All rows."""

    def newest(self, span: Span, size: int) -> Any:
        """The newest `size` rows of the span: those of `audit_find`, or of words no more than their keys."""
        return newest_first(select(AuditFind.__table__).where(*span.of(AuditFind)), AuditFind).limit(size)

    def nth(self, span: Span, size: int) -> Any:
        """The time of the last of the newest `size` rows, about; none when there are fewer."""
        return _last_of(self.newest(span, size).subquery(), size)


@dataclass(frozen=True, slots=True, eq=False)
class ByColumn:
    """The rows with this value in a column that has an index with the time; `only` is the condition of a partial one.

    The value is asked for as a range and ordered by. No other index gives that order, so no planner who thinks that the
    value is common reads all rows by time, to find that it was not lately.
    """

    column: Any
    value: Any
    only: Any = None

    def newest(self, span: Span, size: int) -> Any:
        """As in `ByTime`."""
        return newest_first(self._of(select(AuditFind.__table__), span), AuditFind).limit(size)

    def nth(self, span: Span, size: int) -> Any:
        """As in `ByTime`, from the index alone."""
        if span.after is not None:
            span = Span(span.since, min(span.after[0], span.until or span.after[0]), None)
        return self._of(select(AuditFind.at), span).order_by(AuditFind.at.desc()).offset(size - 1).limit(1)

    def _of(self, query: Any, span: Span) -> Any:
        both = tuple_(self.column, AuditFind.at)
        query = query.where(both >= (self.value, span.since) if span.since else self.column >= self.value)
        if span.after is not None and (span.until is None or span.after[0] < span.until):
            query = query.where(both <= (self.value, span.after[0]), place(AuditFind) < span.after)
        else:
            query = query.where(both < (self.value, span.until) if span.until else self.column <= self.value)
        return (query if self.only is None else query.where(self.only)).order_by(self.column.desc())


@dataclass(frozen=True, slots=True)
class ByWords:
    """The rows with any of these words: one at least."""

    words: tuple[str, ...]

    def newest(self, span: Span, size: int) -> Any:
        """As in `ByTime`."""
        each = [
            newest_first(_KEYS.where(AuditWord.word == word, *span.of(AuditWord)), AuditWord).limit(size)
            for word in self.words
        ]
        if len(each) == 1:
            return each[0]
        found = union(*(select(one.subquery()) for one in each)).subquery()
        return newest_first(select(found), found.c).limit(size)

    def nth(self, span: Span, size: int) -> Any:
        """As in `ByTime`."""
        return _last_of(self.newest(span, size).subquery(), size)


@dataclass(frozen=True, slots=True)
class ByBeginning:
    """The rows with any word that begins so. All of them are read to find the newest, so there must not be many."""

    beginning: str

    def newest(self, span: Span, size: int) -> Any:
        """As in `ByTime`."""
        query = _KEYS.distinct().where(begins(AuditWord, self.beginning), *span.of(AuditWord))
        return newest_first(query, AuditWord).limit(size)

    def nth(self, span: Span, size: int) -> Any:
        """As in `ByTime`."""
        return _last_of(self.newest(span, size).subquery(), size)


Lead = ByTime | ByColumn | ByWords | ByBeginning


@dataclass(frozen=True, slots=True)
class Rest:
    """What is asked of each row of the lead.

    `conditions` gives the conditions on the row, from its columns, its key's columns and the span in which it lies.
    `fits` keeps of the rows that fulfil them, in their order, those that no condition can tell; None = all.
    """

    conditions: Callable[[Any, Any, Span], list[Any]]
    fits: Callable[[Sequence[Any]], Iterator[Any]] | None = None


def sparsest(connection: Connection, leads: Sequence[Lead], span: Span, size: int) -> Lead:
    """The lead whose newest `size` rows reach back the farthest: it has the fewest to look through."""
    chosen, farthest = leads[0], None
    for lead in leads if len(leads) > 1 else ():
        reached = connection.execute(lead.nth(span, size)).scalar()
        if reached is None:
            return lead
        if farthest is None or reached < farthest:
            chosen, farthest = lead, reached
    return chosen


def look(
    connection: Connection, lead: Lead, rest: Rest, span: Span, limit: int, parts: Sequence[int] = PARTS
) -> tuple[list[Any], Key | None]:
    """The newest rows of the lead that fulfil the rest, and the key of the last that was looked at; None = at the end.

    What has to fit as well costs a record's body each, so fewer are looked through: as many as in the two first parts.
    """
    rows: list[Any] = []
    for size in parts if rest.fits is None else (parts[0],) * (sum(parts[:2]) // parts[0]):
        part, missing = lead.newest(span, size).subquery(), limit - len(rows)
        found = connection.execute(
            _fulfilling(lead, part, rest, span).limit(missing if rest.fits is None else size)
        ).all()
        rows += islice(rest.fits(found), missing) if rest.fits else found
        if len(rows) == limit:
            return rows, key_of(rows[-1])
        last = connection.execute(_last_of(part, size)).first()
        if last is None:
            return rows, None
        span = span.behind(key_of(last))
    return rows, span.after


def _fulfilling(lead: Lead, part: Any, rest: Rest, span: Span) -> Any:
    if isinstance(lead, ByWords | ByBeginning):
        # By the key alone: with the time beside it PostgreSQL would expect hardly a row, and sort them all for the
        # first fifty.
        same = and_(part.c.record_id == AuditFind.record_id, part.c.item == AuditFind.item)
        query = (
            select(AuditFind.__table__).join(part, same).where(*rest.conditions(AuditFind.__table__.c, part.c, span))
        )
        return newest_first(query, part.c)
    query = select(part).where(*rest.conditions(part.c, part.c, span))
    if isinstance(lead, ByColumn):
        query = query.order_by(part.c[lead.column.key].desc())
    return newest_first(query, part.c)


def key_of(row: Any) -> Key:
    """Where this row stands."""
    return row.at, row.record_id, row.item


def place(of: Any) -> Any:
    """The key of this table's rows."""
    return tuple_(of.at, of.record_id, of.item)


def newest_first(query: Any, of: Any) -> Any:
    """The query in the order of this table's keys, after what it is ordered by already."""
    return query.order_by(of.at.desc(), of.record_id.desc(), of.item.desc())


def begins(of: Any, beginning: str) -> Any:
    """That the word of this table begins so."""
    return and_(of.word >= beginning, of.word < beginning + LAST)


def _last_of(part: Any, size: int) -> Any:
    keys = select(part.c.at, part.c.record_id, part.c.item)
    return newest_first(keys, part.c).offset(size - 1).limit(1)


_KEYS = select(AuditWord.at, AuditWord.record_id, AuditWord.item)
