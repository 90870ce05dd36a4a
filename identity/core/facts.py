"""Revisions: fact changes held until commit, the one counter row, and the change feed.

The counter row is the only point at which all writers meet, so it is touched by a transaction's last statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from identity.core.bulk import insert_columns, new_keys
from identity.core.db import Base, Fact, Json

FEED_IDS_MAX = 1_000

F = TypeVar("F", bound=Fact)


class Counter(Base):
    """The one row of counters: the facts revision and the change feed's last number."""

    __tablename__ = "counter"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    facts_revision: Mapped[int]
    feed_seq: Mapped[int]


class FactRevision(Base):
    """When each facts revision was committed."""

    __tablename__ = "fact_revision"

    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]


class ChangeFeed(Base):
    """What other processes must read again; `seq` has no gaps. Empty `ids` means everything of that kind."""

    __tablename__ = "change_feed"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    ids: Mapped[list[str]] = mapped_column(Json)
    facts_revision: Mapped[int | None]


@dataclass(slots=True)
class FactChanges:
    """The fact and cache changes of one Unit, held until it commits."""

    added: list[Fact] = field(default_factory=list)
    bulk: dict[type[Fact], list[Mapping[str, Any]]] = field(default_factory=dict)
    closed: dict[type[Fact], list[UUID]] = field(default_factory=dict)
    touched: dict[str, dict[str, None] | None] = field(default_factory=dict)

    def put(
        self,
        session: Session,
        table: type[Fact],
        key: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> bool:
        """After commit exactly `values` is known about `key`; False when it is known already.

        `values` may hold `valid_from` and `valid_until`.
        """
        row = self.current(session, table, key)
        if row is not None and _has(row, values):
            return False
        if row is not None and row in self.added:
            for name, value in values.items():
                setattr(row, name, value)
            return True
        if row is not None:
            self.end(row)
        self.add(table(**key, **values))
        return True

    def drop(self, session: Session, table: type[Fact], key: Mapping[str, Any]) -> bool:
        """After commit nothing is known about `key`; False when nothing was."""
        row = self.current(session, table, key)
        if row is not None:
            self.end(row)
        return row is not None

    def current(self, session: Session, table: type[F], key: Mapping[str, Any]) -> F | None:
        """The one fact about `key`, as this Unit leaves it so far; None when nothing is known.

        Whoever decides by a fact what to change reads it here: the database shows only what was known before the
        Unit. What `add_rows` took is not seen.
        """
        found = self.all_current(session, table, key)
        if len(found) > 1:
            raise LookupError(f"{table.__name__}: {len(found)} facts about {dict(key)}")
        return found[0] if found else None

    def all_current(self, session: Session, table: type[F], where: Mapping[str, Any]) -> list[F]:
        """The facts with these values, as this Unit leaves them so far (but see `current`)."""
        closed = self.closed.get(table, ())
        query = select(table).filter_by(**where).where(table.rev_until.is_(None))
        known = [row for row in session.execute(query).scalars() if row.id not in closed]
        return known + [row for row in self.added if type(row) is table and _has(row, where)]

    def add(self, row: Fact) -> None:
        """A new fact; the row must not be in the session."""
        self.added.append(row)

    def add_rows(self, table: type[Fact], rows: Iterable[Mapping[str, Any]]) -> None:
        """Many new facts as plain values, each with its key's columns and without revisions. They are not looked up:
        the caller has closed what they replace."""
        self.bulk.setdefault(table, []).extend(rows)

    def end(self, row: Fact) -> None:
        """This fact stops being known with this commit; one that this Unit added never was."""
        if row in self.added:
            self.added.remove(row)
        else:
            self.close(type(row), [row.id])

    def close(self, table: type[Fact], ids: Iterable[UUID]) -> None:
        """Facts of the database that stop being known with this commit."""
        self.closed.setdefault(table, []).extend(ids)

    def touch(self, kind: str, ids: Iterable[UUID | str] = ()) -> None:
        """Tell every process that these objects of this kind (or, with no ids, all of them) changed."""
        names = [str(one) for one in ids]
        known = self.touched.setdefault(kind, {})
        if not names or known is None or len(known) + len(names) > FEED_IDS_MAX:
            self.touched[kind] = None
        else:
            known.update(dict.fromkeys(names))

    @property
    def any_fact(self) -> bool:
        return bool(self.added) or any(self.closed.values()) or any(self.bulk.values())

    def flush(self, session: Session, now: datetime) -> int | None:
        """Write everything as the transaction's last statements; the new facts revision, or None without facts."""
        if not self.any_fact and not self.touched:
            return None
        step = 1 if self.any_fact else 0
        revision, seq = session.execute(
            update(Counter)
            .values(
                facts_revision=Counter.facts_revision + step,
                feed_seq=Counter.feed_seq + len(self.touched),
            )
            .returning(Counter.facts_revision, Counter.feed_seq)
        ).one()
        if step:
            self._flush_facts(session, revision, now)
        first = seq - len(self.touched) + 1
        rows = [
            {
                "seq": first + n,
                "kind": kind,
                "ids": list(ids or ()),
                "facts_revision": revision if step else None,
            }
            for n, (kind, ids) in enumerate(self.touched.items())
        ]
        if rows:
            session.execute(insert(ChangeFeed), rows)
        return revision if step else None

    def _flush_facts(self, session: Session, revision: int, now: datetime) -> None:
        for table, ids in self.closed.items():
            for start in range(0, len(ids), 500):
                session.execute(
                    update(table)
                    .where(
                        table.id.in_(ids[start : start + 500]),
                        table.rev_until.is_(None),
                    )
                    .values(rev_until=revision)
                    .execution_options(synchronize_session=False)
                )
        for row in self.added:
            row.rev_from = revision
        session.add_all(self.added)
        session.add(FactRevision(revision=revision, at=now))
        session.flush()
        for table, rows in self.bulk.items():
            if rows:
                insert_columns(session.connection(), table, _columns(rows, revision))


def _columns(rows: Sequence[Mapping[str, Any]], revision: int) -> dict[str, Sequence[Any]]:
    """New facts of one table, column by column."""
    return {
        "id": new_keys(len(rows)),
        **{name: [row.get(name) for row in rows] for name in ("valid_from", "valid_until")},
        **{name: [row[name] for row in rows] for name in rows[0] if name not in {"valid_from", "valid_until"}},
        "rev_from": [revision] * len(rows),
        "rev_until": [None] * len(rows),
    }


def _has(row: Fact, values: Mapping[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in values.items())


def known(table: type[Fact], revision: int | None = None) -> ColumnElement[bool]:
    """The rows of a fact table that are known now, or that were known at a revision."""
    if revision is None:
        return table.rev_until.is_(None)
    return (table.rev_from <= revision) & (table.rev_until.is_(None) | (table.rev_until > revision))


def current_revision(session: Session) -> int:
    """The last committed facts revision that this transaction sees."""
    return session.execute(select(Counter.facts_revision)).scalar_one()
