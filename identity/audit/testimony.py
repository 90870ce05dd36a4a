"""What comes from outside the database, and what of it a verification may hold against the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from identity.audit.anchors import LeafLog
from identity.audit.findings import Report
from identity.audit.models import AuditHead
from identity.audit.note import Head, NoteKey, claimed_head, open_note, stored_note
from identity.audit.restored import Epochs, Restored, is_statement, opened, stored_statements
from identity.core.errors import Invalid


@dataclass(frozen=True, slots=True)
class Evidence:
    """What comes from outside the database: notes as they were anchored, the keys that may have signed them, and the
    leaf log. Without notes the database's own heads are taken, which a forger who holds everything could cut."""

    keys: tuple[NoteKey, ...]
    notes: tuple[str, ...] = ()
    leaf_log: LeafLog | None = None


class Testimony:
    """`heads` are those to check, narrowest first; whether each is signed is asked when it matters. Heads of what a
    restoration lost are not among them: that they are lost is said by a statement, or is a finding."""

    def __init__(self, connection: Connection, evidence: Evidence, report: Report) -> None:
        self._keys = evidence.keys
        self._report = report
        self._stated: Mapping[str, Restored] = {}
        self.epochs = self._restorations(connection, evidence)
        starts = [(one.start, note) for note, one in self._stated.items()]
        heads = [one for one in (*self._all_heads(connection, evidence), *starts) if self._speaks(*one)]
        self.heads = sorted(heads, key=lambda one: (one[0].size, one[0].at))
        self.leaf_log = evidence.leaf_log and evidence.leaf_log.of_epoch(self.epochs.current)

    def signed(self, head: Head, note: str) -> bool:
        """Whether the sealer signed it; a finding if not."""
        try:
            open_note(note, self._keys)
        except Invalid as error:
            where = f"{head.size} leaves, {head.at.isoformat()}: {error.detail}"
            self._report.add("head", head.size - 1, None, where)
            return False
        return True

    def _restorations(self, connection: Connection, evidence: Evidence) -> Epochs:
        """The signed ones, from outside and from the database alike; any other is a finding."""
        notes = {*filter(is_statement, evidence.notes), *stored_statements(connection)}
        self._stated = opened(notes, self._keys)
        if len(self._stated) < len(notes):
            self._report.add("restored", None, None, "a statement does not bear the sealer's signature")
        epochs = Epochs(self._stated.values())
        if len({one.epoch for one in epochs.all}) < len(epochs.all):
            self._report.add("restored", None, None, "two statements are about one restoration")
        self._report.restored = epochs.all
        return epochs

    @staticmethod
    def _all_heads(connection: Connection, evidence: Evidence) -> list[tuple[Head, str]]:
        found = []
        for note in evidence.notes:
            try:
                found.append((claimed_head(note), note))
            except Invalid:
                continue  # a tombstone, or another note
        if not evidence.notes:
            rows = connection.execute(select(AuditHead.__table__).order_by(AuditHead.size))
            found = [stored_note(row) for row in rows]
        return found

    def _speaks(self, head: Head, note: str) -> bool:
        """Whether the log must still hold this head."""
        if self.epochs.unknown(head) and self.signed(head, note):
            self._report.add("restored", None, None, f"a head of history {head.epoch} is there, its statement is not")
        lost = self.epochs.superseding(head)
        if lost is None:
            return True
        self._report.superseded += not is_statement(note)
        if head.size > lost.lost and self.signed(head, note):
            said = f"a head of {head.size} leaves was signed; it tells that {lost.lost} were there"
            self._report.add("restored", lost.kept, None, said)
        return False
