"""The record in the order of its commits, from a position on: for the finder and for shipping.

On PostgreSQL a row may become visible after a row with a later number, so a position is a transaction id and reading
stops at the oldest transaction that is still open; on SQLite there is one writer, and a position is a rowid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

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
    if connection.dialect.name == "postgresql":
        return _postgres(connection, position, limit, now)
    rows = connection.exec_driver_sql(
        'SELECT rowid, "class", id, at, body FROM audit_record WHERE rowid > ? ORDER BY rowid LIMIT ?',
        (position, limit),
    ).all()
    found = [Raw(row[1], UUID(row[2]), from_micros(row[3]), row[4]) for row in rows]
    more = len(rows) >= limit
    return Tail(found, rows[-1][0] if rows else position, more, found[-1].at if more else now)


_COLUMNS = 'SELECT xid::text::bigint AS x, "class", id, at, body FROM audit_record WHERE xid::text::bigint '


def _postgres(connection: Connection, position: int, limit: int, now: datetime) -> Tail:
    """Whole transactions only, so that the next reading starts behind the last one read."""
    horizon, oldest = connection.execute(
        text(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
            "(SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL)"
        )
    ).one()
    rows = connection.execute(
        text(f"{_COLUMNS} >= :low AND xid::text::bigint < :high ORDER BY xid, id LIMIT :n"),
        {"low": position, "high": horizon, "n": limit},
    ).all()
    more = len(rows) >= limit
    if not more:
        return Tail([_raw(row) for row in rows], horizon, False, min(now, oldest) if oldest else now)
    last = rows[-1][0]
    whole = [row for row in rows if row[0] < last]
    if not whole:  # one transaction of more than `limit` records: read it to its end
        whole = list(connection.execute(text(f"{_COLUMNS} = :xid ORDER BY id"), {"xid": last}).all())
        last += 1
    return Tail([_raw(row) for row in whole], last, True, whole[-1].at)


def _raw(row: Any) -> Raw:
    return Raw(row[1], row[2], row[3], bytes(row[4]))
