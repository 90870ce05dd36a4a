"""The Unit: one act, with who does it, when, why, its transaction and what it leaves in the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from identity.core.db import Database
from identity.core.errors import Conflict, Unavailable
from identity.core.facts import FactChanges
from identity.core.feed import Feed
from identity.core.record import Actor, Call, Origin, Record
from identity.core.secrets import new_id


class RecordSink(Protocol):
    """Port to the audit."""

    def write(
        self,
        connection: Connection,
        call: Call,
        records: Sequence[Record],
        revision: int | None,
    ) -> None:
        """Insert the records in this transaction; `revision` is the facts revision that it commits, if any."""
        ...

    def submit(self, call: Call, records: Sequence[Record]) -> None:
        """Hand the records to the process's recorder and return when they are durable."""
        ...

    def submit_later(self, call: Call, records: Sequence[Record], then: Callable[[Unavailable | None], None]) -> None:
        """As `submit`, but return at once: `then` hears when they are durable, or why they are not."""
        ...


class Guard(Protocol):
    """Port to the access decision; raises `Refused` when the actor may not do this."""

    def __call__(
        self,
        unit: Unit,
        action: str,
        resource_type: str,
        resource_id: str,
        properties: Mapping[str, Any],
    ) -> None: ...


class Watch(Protocol):
    """Port to what must hold after every change; raises `Conflict` when this Unit must not commit."""

    def __call__(self, unit: Unit, revision: int) -> None:
        """The Unit's facts are written as `revision`; the watch may add to its records."""
        ...


@dataclass(slots=True)
class Unit:
    """One act in one transaction; see `Units.open`."""

    db: Session
    actor: Actor
    now: datetime
    request_id: str
    origin: Origin
    guard: Guard
    reason: str | None = None
    reference: str | None = None
    records: list[Record] = field(default_factory=list)
    facts: FactChanges = field(default_factory=FactChanges)

    def record(self, record: Record) -> None:
        """Leave this in the audit, durable with the act."""
        self.records.append(record)

    def require(
        self,
        action: str,
        resource_type: str,
        resource_id: str,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise `Refused` unless the actor may do `action` on this resource of the console application."""
        if self.actor.kind != "system":
            self.guard(self, action, resource_type, resource_id, properties or {})


class Units:
    """Opens Units; the one place where the product commits."""

    def __init__(self, database: Database, sink: RecordSink, feed: Feed, guard: Guard) -> None:
        self._database = database
        self._sink = sink
        self._feed = feed
        self._guard = guard
        self._watch: Watch | None = None

    def watched_by(self, watch: Watch) -> None:
        """Every Unit with facts is looked at before it commits from now on; tools that give no role do without."""
        self._watch = watch

    @contextmanager
    def open(
        self,
        actor: Actor,
        *,
        write: bool = True,
        now: datetime | None = None,
        request_id: str | None = None,
        origin: Origin | None = None,
        reason: str | None = None,
        reference: str | None = None,
        follow: bool = True,
    ) -> Iterator[Unit]:
        """A Unit that commits once on success and rolls back on any error.

        Its records are part of its transaction; when it rolls back or only reads, those that stay true go to
        the recorder after the transaction has ended. Raises `Conflict` for a broken constraint and
        `Unavailable` when the database or the audit cannot take it. `follow` false = this process's caches are
        brought up to date later, by `follow()` or the feed's own thread: for the many Units of one bulk change.
        """
        unit: Unit | None = None
        changed = False
        completed = False
        committed = False
        try:
            with (
                self._database.write() if write else self._database.read() as connection,
                Session(bind=connection, autoflush=True, expire_on_commit=False) as session,
            ):
                unit = Unit(
                    session,
                    actor,
                    now or datetime.now(UTC),
                    request_id or str(new_id()),
                    origin or Origin(),
                    self._guard,
                    reason,
                    reference,
                )
                yield unit
                completed = True
                if write:
                    session.flush()
                    revision = unit.facts.flush(session, unit.now)
                    if revision is not None and self._watch is not None:
                        self._watch(unit, revision)
                    self._sink.write(connection, unit, unit.records, revision)
                    changed = bool(unit.facts.touched)
            committed = write
        except IntegrityError as error:
            raise Conflict(
                "This is already there, or still in use.",
                str(error.orig),
                code="constraint",
            ) from error
        finally:
            if unit is not None and not committed:
                self._submit_rest(unit, finished=completed and not write)
        if changed and follow:
            self._feed.follow()

    def follow(self) -> None:
        """Bring this process's caches up to date, where it has any, after Units that were told not to."""
        if self._feed.is_used:
            self._feed.follow()

    def _submit_rest(self, unit: Unit, *, finished: bool) -> None:
        rest = [r for r in unit.records if r.outlives_rollback or finished]
        if rest:
            self._sink.submit(unit, rest)
