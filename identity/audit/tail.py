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

from identity.audit.bulk import RecordRow, is_postgres, records_after_row, records_from, records_of_transactions
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


def read_tail(connection: Connection, position: int, limit: int, now: datetime) -> Tail:
    """The records behind `position` (0 = from the first on), about `limit` of them."""
    found = read_plain_tail(connection, position, limit, now)
    rows = [Raw(name, UUID(bytes=record_id), from_micros(at), body) for at, record_id, body, name in found.rows]
    return Tail(rows, found.position, found.more, found.complete_to)


@dataclass(frozen=True, slots=True)
class PlainTail:
    """A `Tail` of plain values, for who reads very many: (microseconds since 1970, id, body, class)."""

    rows: list[RecordRow]
    position: int
    more: bool
    complete_to: datetime


def read_plain_tail(connection: Connection, position: int, limit: int, now: datetime) -> PlainTail:
    """As `read_tail`."""
    if not is_postgres(connection):
        found = records_after_row(connection, position, limit)
        more = len(found) >= limit
        end = from_micros(found[-1][1]) if more else now
        return PlainTail([row[1:] for row in found], found[-1][0] if found else position, more, end)
    # Whole transactions only, so that the next reading starts behind the last one read.
    horizon, oldest = connection.execute(
        text(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
            "(SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL)"
        )
    ).one()
    found = records_from(connection, position, horizon, limit)
    if len(found) < limit:
        return PlainTail([row[1:] for row in found], horizon, False, min(now, oldest) if oldest else now)
    last = found[-1][0]
    whole = [row[1:] for row in found if row[0] < last]
    if not whole:  # one transaction of more than `limit` records: read it to its end
        last += 1
        whole = sorted(records_of_transactions(connection, last - 1, last), key=itemgetter(1))
    return PlainTail(whole, last, True, from_micros(whole[-1][0]))
