"""How an operator says that the database was restored from a backup, so that sealing goes on and the gap stays told.

The statement is signed by the sealer's key and begins a new history of the log. It says what the anchors prove to be
lost, and nothing else can be said away by it: what the restored database holds must be what was anchored before.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from identity.audit import bulk
from identity.audit.history import last_heads, missing_from
from identity.audit.kinds import Kind
from identity.audit.models import AuditSeal
from identity.audit.note import Head, HeadSigner, NoteKey, open_note, sign_note, stamp
from identity.audit.restored import Epochs, Restored, known, store
from identity.audit.seal import LEASE, LEASE_S, Outside
from identity.audit.tree import StoredTree
from identity.core.db import Database
from identity.core.errors import Conflict, Invalid, TesseraError
from identity.core.lease import acquire, release, renew
from identity.core.record import Record
from identity.core.unit import Unit

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What the operator says: who he is, of what time the restored state is, why, and the number of the change."""

    by: str
    backup_at: datetime
    reason: str
    reference: str


class Acknowledging:
    """`look` says what would be stated; `sign` states it, records it and sends it out."""

    def __init__(
        self, database: Database, signers: Sequence[HeadSigner], outside: Outside, more: Sequence[str] = ()
    ) -> None:
        """`more` are notes beside those of the anchor file, as others received them."""
        self._database = database
        self._signers = tuple(signers)
        self._keys = [one.key for one in signers]
        self._outside = outside
        self._more = tuple(more)

    def look(self, said: Said, now: datetime) -> Restored:
        """The statement that fits.

        Raises `Conflict` when nothing is missing (code `audit_whole`), or when what is there is not what was anchored
        (code `audit_history`): no restoration explains that. Raises `Invalid` for a backup of a time that cannot be.
        """
        with self._database.read(consistent=True) as connection:
            bulk.unhurried(connection)
            notes = [*self._outside.file.notes(), *self._more]
            epochs = known(connection, notes, self._keys)
            size = connection.execute(select(AuditSeal.size)).scalar_one()
            return self._statement(connection, epochs, _heads(notes, epochs, self._keys), size, said, now)

    def sign(
        self, said: Said, open_unit: Callable[[], AbstractContextManager[Unit]], holder: str, now: datetime
    ) -> Restored:
        """Raises as `look` does, and `Conflict` (code `lease_held`) while a sealer works."""
        with self._database.write() as connection, Session(bind=connection) as session:
            held = acquire(session, LEASE, holder, now, LEASE_S)
        try:
            statement = self.look(said, now)
            note = sign_note(statement.text, self._signers)
            with open_unit() as unit:
                renew(unit.db, held, now, LEASE_S)
                store(unit.db.connection(), note, statement)
                unit.record(_record(statement, note))
        finally:
            with self._database.write() as connection, Session(bind=connection) as session:
                release(session, held, now)
        self._send(statement, note)
        return statement

    def _statement(
        self, connection: Connection, epochs: Epochs, heads: Sequence[Head], size: int, said: Said, now: datetime
    ) -> Restored:
        tree = StoredTree(connection)
        leaf_log = self._outside.leaf_log and self._outside.leaf_log.begin(epochs.current)
        held = max((one for one in heads if one.size <= size), key=lambda one: one.size, default=None)
        last = max(heads, key=lambda one: one.size, default=None)
        if held is not None and tree.root(held.size) != held.root:
            raise Conflict(
                "What the database holds was changed, not only cut: no restoration explains that. See verify-audit.",
                f"{held.size} leaves of {held.at.isoformat()}",
                code="audit_history",
            )
        if last is None or not missing_from(tree, size, [last], leaf_log):
            raise Conflict("The database holds all that its anchors prove: nothing is lost.", code="audit_whole")
        if said.backup_at > now or (held is not None and said.backup_at < held.at):
            earliest = stamp(held.at) if held is not None else "-"
            raise Invalid("The backup cannot be of this time.", f"{earliest} to {stamp(now)}", code="backup_time")
        logged = leaf_log.size if leaf_log is not None else 0
        made = Restored(
            origin=self._signers[0].key.name,
            epoch=epochs.current + 1,
            kept=size,
            root=tree.root(size),
            lost=max(last.size, logged),
            head=last,
            backup_at=said.backup_at,
            at=now,
            by=said.by,
            reason=said.reason,
            reference=said.reference,
        )
        return Restored.parse(made.text)

    def _send(self, statement: Restored, note: str) -> None:
        """To every anchor. A sealer that starts writes it into the anchor file if this could not."""
        for one in self._outside.anchors:
            try:
                one.put(statement.start, note)
            except TesseraError as error:
                _log.warning("the statement did not reach %s: %s", one.name, error)


def _heads(notes: Sequence[str], epochs: Epochs, keys: Sequence[NoteKey]) -> list[Head]:
    """Every signed head that speaks of the log, and what the last restoration kept."""
    found = last_heads((), epochs, keys)
    for note in notes:
        try:
            head = Head.parse(open_note(note, keys))
        except Invalid:
            continue
        if epochs.superseding(head) is None:
            found.append(head)
    return found


def _record(statement: Restored, note: str) -> Record:
    return Record(
        kind=Kind.HISTORY_RESTORED,
        result="success",
        resource_type="audit",
        resource_id=f"epoch {statement.epoch}",
        data={
            "epoch": statement.epoch,
            "kept": statement.kept,
            "lost": statement.lost - statement.kept,
            "backup": stamp(statement.backup_at),
            "last_head": stamp(statement.head.at),
            "by": statement.by,
            "statement": hashlib.sha256(note.encode()).hexdigest(),
        },
    )
