"""Use once: a value of a kind is taken by exactly one caller, on every node and after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, LargeBinary, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base
from identity.core.secrets import digest


class Once(Base):
    """A value that was used; kept until nobody could present it again."""

    __tablename__ = "once"

    kind: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


def consume_once(connection: Connection, kind: str, value: str, expires_at: datetime) -> bool:
    """Whether this caller is the first to use `value` of `kind`; decided by the database, not by row counts."""
    return bool(consume_many(connection, kind, [value], expires_at))


def consume_many(connection: Connection, kind: str, values: Iterable[str], expires_at: datetime) -> set[str]:
    """Those of these values that nobody has used before; this caller is then their first user."""
    # In one order for everybody, so that two callers with the same values do not wait for each other.
    by_digest = dict(sorted((digest(value), value) for value in values))
    if not by_digest:
        return set()
    maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = (
        maker(Once)
        .values([{"kind": kind, "value": one, "expires_at": expires_at} for one in by_digest])
        .on_conflict_do_nothing()
        .returning(Once.value)
    )
    return {by_digest[bytes(one)] for one in connection.execute(statement).scalars()}


def forget_expired(connection: Connection, now: datetime) -> None:
    """Drop values that could not be presented any more."""
    connection.execute(delete(Once).where(Once.expires_at < now))
