"""The sealer: gives the records their order, hangs them into the tree, signs heads and sends them out.

One at a time, by a lease whose fencing is checked in the transaction of each write; a kill between two statements
leaves no gap and no double, because leaves, nodes and the position that they were read to commit together.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, exists, insert, select, update
from sqlalchemy.orm import Session

from identity.audit import bulk, merkle, tombstones
from identity.audit.anchors import Anchor, FileAnchor, LeafLog
from identity.audit.history import last_heads, missing_from
from identity.audit.models import AuditAnchor, AuditHead, AuditSeal
from identity.audit.note import Head, HeadSigner, signature_lines, stored_note
from identity.audit.restored import known, opened, store, stored_statements
from identity.audit.tree import StoredTree, Tiles
from identity.core.db import Database, from_micros
from identity.core.errors import Conflict, Stale, TesseraError, Unavailable
from identity.core.lease import Held, acquire, release, renew

LEASE = "audit-sealer"
LEASE_S = 30
CHUNK = 20_000
TICK_S = 0.25
BURY_S = 60

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """Where heads go: the anchor file is always one of the places, and holds what the sealer trusts at its start."""

    file: FileAnchor
    leaf_log: LeafLog | None = None
    others: tuple[Anchor, ...] = ()

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        return (self.file, *self.others)


@dataclass(slots=True)
class _State:
    held: Held
    tiles: Tiles
    position: int
    epoch: int
    leaf_log: LeafLog | None
    drained: bool = False
    renewed: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    marks: deque[tuple[int, datetime]] = field(default_factory=deque)
    """Behind the transactions that had begun by a time: who has read to there has all that was recorded before it. The
    oldest of them may be open for long."""


def _sealed_to(marks: deque[tuple[int, datetime]], position: int) -> datetime | None:
    """The latest time whose mark lies within the position; the marks before it are done."""
    while len(marks) > 1 and marks[1][0] <= position:
        marks.popleft()
    return marks[0][1] if marks and marks[0][0] <= position else None


class Sealer:
    """`take` it, then `seal`, `head` and `anchor`, or `run` until stopped."""

    def __init__(
        self,
        database: Database,
        signers: Sequence[HeadSigner],
        outside: Outside,
        holder: str,
        head_s: int = 60,
        retention_days: int = 1_095,
    ) -> None:
        self._database = database
        self._signers = tuple(signers)
        self._keys = [one.key for one in signers]
        self._outside = outside
        self._holder = holder
        self._head_s = head_s
        self._retention_days = retention_days
        self._state: _State | None = None
        self._width = 256
        self._quiet: dict[str, datetime] = {}

    def take(self, now: datetime) -> None:
        """Become the sealer and take up the tree.

        Raises `Conflict` (code `lease_held`) while another one is; `Conflict` (code `audit_history`) when the database
        does not hold what the anchors prove: a restore, a fail-over that lost commits, or a forger.
        """
        with self._database.write() as connection, Session(bind=connection) as session:
            held = acquire(session, LEASE, self._holder, now, LEASE_S)
        with self._database.read(consistent=True) as connection:
            bulk.unhurried(connection)
            position, size = connection.execute(select(AuditSeal.position, AuditSeal.size)).one()
            tree = StoredTree(connection)
            notes = self._outside.file.notes()
            epochs = known(connection, notes, self._keys)
            leaf_log = self._outside.leaf_log and self._outside.leaf_log.begin(epochs.current)
            missing = missing_from(tree, size, last_heads(notes, epochs, self._keys), leaf_log)
            if not missing:
                self._state = _State(held, tree.tiles(size), position, epochs.current, leaf_log)
                self._log_leaves(connection, size)
        if missing:
            with self._database.write() as connection, Session(bind=connection) as session:
                release(session, held, now)
            raise Conflict(
                "The database does not hold the audit that its anchors prove. Nothing is sealed. If it was restored "
                "from a backup, `identity audit-restored` states so.",
                missing,
                code="audit_history",
            )
        self._spread(notes, now)

    def seal(self, now: datetime) -> int:
        """Seal what has been committed; the number of leaves appended (0 = nothing new)."""
        state = self._taken()
        with self._database.read(consistent=True) as connection:
            bulk.unhurried(connection)
            rows, position, drained = self._read(connection, state, now)
        if not rows and now - state.renewed < timedelta(seconds=LEASE_S / 3):
            state.drained = drained
            return 0
        start = state.tiles.size
        leaves = [(start + n, at, record_id, digest, name) for n, (record_id, at, digest, name) in enumerate(rows)]
        nodes = state.tiles.extend([digest for _, _, digest, _ in rows])
        sealed_to = _sealed_to(state.marks, position)
        if sealed_to is None and not drained:
            sealed_to = from_micros(max(at for _, at, _, _ in rows))
        try:
            with self._database.write() as connection:
                self._hold(connection, now)
                done = connection.execute(
                    update(AuditSeal)
                    .where(AuditSeal.size == start, AuditSeal.position == state.position)
                    .values(position=position, size=state.tiles.size, sealed_to=sealed_to or AuditSeal.sealed_to)
                )
                if done.rowcount != 1:
                    raise Stale("The tree was changed by another process.", code="lease_lost")
                bulk.insert_leaves(connection, leaves)
                bulk.insert_nodes(connection, nodes)
        except BaseException:
            self._state = None  # whatever happened, the tree in memory may be ahead of the stored one
            raise
        state.position, state.drained, state.renewed = position, drained, now
        if state.leaf_log is not None:
            state.leaf_log.append(start, [one[2] for one in leaves], [one[3] for one in leaves])
        return len(leaves)

    def head(self, now: datetime, *, force: bool = False) -> Head | None:
        """Sign a head when leaves came since the last one and it is due; `force`: due or not."""
        state = self._taken()
        with self._database.read() as connection:
            last = connection.execute(
                select(AuditHead.size, AuditHead.at).order_by(AuditHead.size.desc()).limit(1)
            ).first()
        if last is not None and (
            last.size == state.tiles.size or (not force and now - last.at < timedelta(seconds=self._head_s))
        ):
            return None
        if not state.tiles.size:
            return None
        head = Head(self._signers[0].key.name, state.tiles.size, state.tiles.root(), now, state.epoch)
        with self._database.write() as connection:
            self._hold(connection, now)
            connection.execute(
                insert(AuditHead).values(
                    size=head.size,
                    root=head.root,
                    at=now,
                    kid=self._signers[0].key.id.hex(),
                    signature=signature_lines(head.text, self._signers).encode(),
                    epoch=head.epoch,
                )
            )
        return head

    def anchor(self, now: datetime) -> int:
        """Send the newest head wherever it has not arrived; the number of places that took it."""
        state = self._taken()
        with self._database.read() as connection:
            row = connection.execute(select(AuditHead.__table__).order_by(AuditHead.size.desc()).limit(1)).first()
            if row is None:
                return 0
            there = set(connection.execute(select(AuditAnchor.target).where(AuditAnchor.size == row.size)).scalars())
            if state.leaf_log is not None and self._outside.file.name not in there:
                self._log_leaves(connection, row.size)
        head, note = stored_note(row)
        sent = 0
        for one in self._outside.anchors:
            if one.name not in there and self._quiet.get(one.name, now) <= now:
                sent += self._send(one, head, note, now)
        return sent

    def bury(self, now: datetime) -> int:
        """Sign the tombstones that retention asks for, as far as they are right; the number signed."""
        self._taken()
        with self._database.read() as connection:
            wanted = tombstones.asked(connection)
        signed = 0
        for purge in wanted:
            with self._database.read(consistent=True) as connection:
                bulk.unhurried(connection)
                stone, why = tombstones.make_tombstone(
                    connection, purge, self._signers[0].key.name, self._retention_days, now
                )
            if stone is None:
                tombstones.refuse(purge, why)
                continue
            with self._database.write() as connection:
                self._hold(connection, now)
                note = tombstones.store(connection, stone, self._signers)
            self._outside.file.append(note)
            signed += 1
        return signed

    def run(self, stop: threading.Event) -> None:
        """Seal until stopped; waits for the lease, and gives it back at the end.

        Raises `Conflict` (code `audit_history`) as `take` does: somebody must look before anything is sealed again.
        """
        bury_at = datetime.now(UTC)
        while not stop.is_set():
            try:
                now = datetime.now(UTC)
                if self._state is None:
                    self.take(now)
                self.seal(now)
                self.head(now)
                self.anchor(now)
                if now >= bury_at:
                    bury_at = now + timedelta(seconds=BURY_S)
                    self.bury(now)
                if self._taken().drained:
                    # Also when there was something: many small rounds cost more than few.
                    stop.wait(TICK_S)
            except (Unavailable, Stale, Conflict) as error:
                if error.code == "audit_history":
                    raise
                self._state = None
                _log.warning("sealing pauses: %s", error)
                stop.wait(1)
        self.stop(datetime.now(UTC))

    def stop(self, now: datetime) -> None:
        """Sign and send a last head, and give the lease back."""
        if self._state is None:
            return
        self.head(now, force=True)
        self.anchor(now)
        with self._database.write() as connection, Session(bind=connection) as session:
            release(session, self._state.held, now)
        self._state = None

    def _taken(self) -> _State:
        if self._state is None:
            raise Stale("This process is not the sealer.", code="lease_lost")
        return self._state

    def _hold(self, connection: Connection, now: datetime) -> None:
        """Fencing: the lease is ours in this very transaction, or it fails."""
        with Session(bind=connection) as session:
            renew(session, self._taken().held, now, LEASE_S)

    def _read(
        self, connection: Connection, state: _State, now: datetime
    ) -> tuple[list[tuple[bytes, int, bytes, str]], int, bool]:
        """The next rows with their leaf hashes, in their order; the position behind them; whether that was all."""
        if not bulk.is_postgres(connection):
            found = bulk.records_after_row(connection, state.position, CHUNK)
            rows = [(record_id, at, merkle.leaf_hash(body), name) for _, at, record_id, body, name in found]
            position = found[-1][0] if found else state.position
            if len(found) < CHUNK:
                state.marks.append((position, now))
            return rows, position, len(found) < CHUNK
        horizon, begun = connection.exec_driver_sql(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint FROM pg_current_snapshot() s"
        ).one()
        state.marks.append((begun, now))
        if horizon < state.position:
            raise Conflict(
                "The database's transaction numbers went back: it was restored into another server.",
                f"sealed to {state.position}, horizon {horizon}",
                code="audit_history",
            )
        low = state.position
        rows, new = [], hashlib.sha256
        while low < horizon and not rows:
            high = min(horizon, low + self._width)
            rows = [
                (record_id, at, new(b"\0" + body).digest(), name)  # merkle.leaf_hash, without the call
                for at, record_id, body, name in bulk.records_of_transactions(connection, low, high)
            ]
            if len(rows) > 2 * CHUNK:
                self._width = max(1, self._width // 2)
            elif len(rows) < CHUNK:
                self._width = min(self._width * 4, 1 << 40)
            low = high
        rows.sort()
        return rows, low, low == horizon

    def _spread(self, notes: Sequence[str], now: datetime) -> None:
        """What the anchor file or the database states of restorations, both do."""
        with self._database.read() as connection:
            stored = stored_statements(connection)
        for note in stored:
            if note not in notes:
                self._outside.file.append(note)
        for note, statement in opened(notes, self._keys).items():
            if note not in stored:
                with self._database.write() as connection:
                    self._hold(connection, now)
                    store(connection, note, statement)

    def _log_leaves(self, connection: Connection, size: int) -> None:
        leaf_log = self._taken().leaf_log
        try:
            if leaf_log is not None:
                leaf_log.catch_up(connection, size)
        except OSError as error:
            _log.warning("the leaf log cannot be written: %s", error)

    def _send(self, anchor: Anchor, head: Head, note: str, now: datetime) -> bool:
        try:
            receipt = anchor.put(head, note)
        except TesseraError as error:
            _log.warning("head %d did not reach %s: %s", head.size, anchor.name, error)
            self._quiet[anchor.name] = now + timedelta(seconds=5)
            return False
        with self._database.write() as connection:
            there = connection.execute(
                select(exists().where(AuditAnchor.size == head.size, AuditAnchor.target == anchor.name))
            ).scalar_one()
            if not there:
                connection.execute(
                    insert(AuditAnchor).values(size=head.size, target=anchor.name, at=now, receipt=receipt)
                )
                connection.execute(
                    update(AuditHead)
                    .where(AuditHead.size == head.size, AuditHead.anchored_at.is_(None))
                    .values(anchored_at=now)
                )
        return True
