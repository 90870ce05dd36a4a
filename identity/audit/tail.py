"""The record in the order of its commits, from a position on: for the finder and for shipping.

On PostgreSQL a row may become visible after a row with a later number, so a position is a transaction id and reading
stops at the oldest transaction that is still open; on SQLite there is one writer, and a position is a rowid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from sqlalchemy import Connection, text

from identity.audit.bulk import RecordRow, is_postgres, numbered_records, records_after_row
from identity.core.db import from_micros


@dataclass(frozen=True, slots=True)
class Raw:
    """A stored record; `body` is its canonical JSON."""

    retention_class: str
    id: UUID
    at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows a position. `position` is where the next reading begins; without `more` it is the end for now, and
    everything committed before `complete_to` has been read."""

    rows: list[Raw]
    position: int
    more: bool
    complete_to: datetime


@dataclass(frozen=True, slots=True)
class PlainTail:
    """A `Tail` of plain values, for who reads very many: (microseconds since 1970, id, body, class)."""

    rows: list[RecordRow]
    position: int
    more: bool
    complete_to: datetime


class TailReader:
    """Reads on from position to position, about `limit` records each time: at most twice as many, but a
    transaction whole.

    It looks at so many transactions at once as lately held that many records: asked for the first records of all, the
    database would sort the whole rest of the tail each time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._width = 512

    def read(self, connection: Connection, position: int, now: datetime) -> Tail:
        """The records behind `position` (0 = from the first on)."""
        found = self.plain(connection, position, now)
        rows = [Raw(name, UUID(bytes=record_id), from_micros(at), body) for at, record_id, body, name in found.rows]
        return Tail(rows, found.position, found.more, found.complete_to)

    def plain(self, connection: Connection, position: int, now: datetime) -> PlainTail:
        """As `read`."""
        if not is_postgres(connection):
            found = records_after_row(connection, position, self._limit)
            more = len(found) >= self._limit
            complete_to = from_micros(found[-1][1]) if more else now
            return PlainTail([row[1:] for row in found], found[-1][0] if found else position, more, complete_to)
        # Whole transactions only, so that the next reading starts behind the last one read.
        horizon, oldest = connection.execute(
            text(
                "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
                "(SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL)"
            )
        ).one()
        rows, end = self._part(connection, position, horizon)
        if len(rows) > 2 * self._limit:
            end = rows[self._limit][0]
            whole = [row[1:] for row in rows if row[0] < end]
            if not whole:  # one transaction of more than `limit` records
                whole = [row[1:] for row in rows if row[0] == end]
                end += 1
            self._width = end - rows[0][0]
        else:
            whole = [row[1:] for row in rows]
            if len(rows) < self._limit:
                self._width *= 2
        if end < horizon:
            return PlainTail(whole, end, True, from_micros(whole[-1][0]))
        return PlainTail(whole, horizon, False, min(now, oldest) if oldest else now)

    def _part(
        self, connection: Connection, position: int, horizon: int
    ) -> tuple[list[tuple[int, int, bytes, bytes, str]], int]:
        """The next records in their order, and where looking for them ended."""
        while True:
            end = min(position + self._width, horizon)
            rows = numbered_records(connection, position, end)
            if rows or end == horizon:
                return sorted(rows, key=itemgetter(0, 2)), end
            self._width *= 4
