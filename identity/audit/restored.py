"""The sealer's word that the database was put back to an earlier state: what of the log is lost, why, and who says so.

A restoration begins a new history (epoch) of the log. It keeps the first `kept` leaves; heads of earlier histories
that cover more are superseded, which only a statement with the sealer's signature can say. It is a signed note and
stands in the anchor file and in the database.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from identity.audit.models import AuditRestored
from identity.audit.note import Head, NoteKey, open_note, parse_base64, parse_number, parse_time, stamp
from identity.core.errors import Invalid

_END = "/restored"
_NAMES = ("epoch", "kept", "root", "lost", "head", "backup", "at", "by", "reason", "reference")


@dataclass(frozen=True, slots=True)
class Restored:
    """History number `epoch` begins with the first `kept` leaves of the one before it, whose root is `root`; the
    leaves kept <= seq < lost of that one are gone.

    `head` is the widest head that was signed over the earlier history; what was recorded after it is gone too, and
    nobody can count it. `backup_at` is the time of the state that was restored, as `by` says.
    """

    origin: str
    epoch: int
    kept: int
    root: bytes
    lost: int
    head: Head
    backup_at: datetime
    at: datetime
    by: str
    reason: str
    reference: str

    @property
    def text(self) -> str:
        """What is signed."""
        head = self.head
        values = (
            *(str(self.epoch), str(self.kept), base64.b64encode(self.root).decode(), str(self.lost)),
            f"{head.epoch} {head.size} {base64.b64encode(head.root).decode()} {stamp(head.at)}",
            *(stamp(self.backup_at), stamp(self.at), _line(self.by), _line(self.reason), _line(self.reference)),
        )
        lines = [f"{self.origin}{_END}", *(f"{name} {value}" for name, value in zip(_NAMES, values, strict=True))]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Restored:
        """Raises `Invalid` (code `note`) for another text."""
        first, *lines = text.removesuffix("\n").split("\n")
        values = {name: value for name, _, value in (line.partition(" ") for line in lines)}
        parts = values.get("head", "").split(" ")
        roots = [parse_base64(one) for one in (values.get("root", ""), parts[2] if len(parts) == 4 else "")]
        if tuple(values) != _NAMES or not first.endswith(_END) or any(one is None or len(one) != 32 for one in roots):
            raise Invalid("This is not the statement of a restoration.", code="note")
        origin, (root, head_root) = first.removesuffix(_END), (one or b"" for one in roots)
        found = cls(
            origin,
            *(parse_number(values["epoch"]), parse_number(values["kept"]), root, parse_number(values["lost"])),
            Head(origin, parse_number(parts[1]), head_root, parse_time(parts[3]), parse_number(parts[0])),
            *(parse_time(values["backup"]), parse_time(values["at"])),
            *(values["by"], values["reason"], values["reference"]),
        )
        if found.text != text or found.epoch <= found.head.epoch or found.lost < found.kept:
            raise Invalid("This is not the statement of a restoration.", code="note")
        return found

    @property
    def start(self) -> Head:
        """What the new history begins with, as a head that it must hold."""
        return Head(self.origin, self.kept, self.root, self.backup_at, self.epoch)

    def __str__(self) -> str:
        gone = self.lost - self.kept
        which = f"{gone} records are lost (seq {self.kept} to {self.lost - 1})" if gone else "no sealed record is lost"
        return (
            f"restored at {stamp(self.at)} to the backup of {stamp(self.backup_at)}, by {self.by}: {which}, and "
            f"whatever was recorded after {stamp(self.head.at)}; history {self.epoch} begins. Reason: {self.reason}. "
            f"Reference: {self.reference}"
        )


class Epochs:
    """Which heads still speak of the log, after these restorations."""

    def __init__(self, restorations: Iterable[Restored]) -> None:
        self.all = sorted(set(restorations), key=lambda one: (one.epoch, one.at))

    @property
    def current(self) -> int:
        """The number of the history that is being written."""
        return self.all[-1].epoch if self.all else 0

    def superseding(self, head: Head) -> Restored | None:
        """The restoration after which this head no longer speaks of the log; None while it does."""
        return next((one for one in self.all if one.epoch > head.epoch and one.kept < head.size), None)

    def unknown(self, head: Head) -> bool:
        """Whether a restoration is missing before this head's history."""
        return not set(range(1, head.epoch + 1)) <= {one.epoch for one in self.all}


def is_statement(note: str) -> bool:
    """Whether a note says that it is one; its signature is still to be checked."""
    return note.partition("\n")[0].endswith(_END)


def stored_statements(connection: Connection) -> list[str]:
    """The notes that the database holds, oldest history first."""
    return list(connection.execute(select(AuditRestored.note).order_by(AuditRestored.epoch)).scalars())


def opened(notes: Iterable[str], keys: Sequence[NoteKey]) -> dict[str, Restored]:
    """The statements among the notes that one of these keys signed, by their notes; others are passed over."""
    found: dict[str, Restored] = {}
    for note in filter(is_statement, notes):
        try:
            found[note] = Restored.parse(open_note(note, keys))
        except Invalid:
            continue
    return found


def known(connection: Connection, notes: Iterable[str], keys: Sequence[NoteKey]) -> Epochs:
    """The restorations that these notes or the database state."""
    return Epochs(opened([*notes, *stored_statements(connection)], keys).values())


def store(connection: Connection, note: str, statement: Restored) -> None:
    """Keep the signed statement."""
    connection.execute(insert(AuditRestored).values(epoch=statement.epoch, at=statement.at, note=note))


def _line(text: str) -> str:
    return " ".join(text.split()) or "-"
