"""Proofs for those who ask: that a record stands in the log, and that a log grew out of an earlier one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from identity.audit import merkle
from identity.audit.models import AuditAnchor, AuditHead, AuditLeaf
from identity.audit.note import Head, stamp, stored_note
from identity.audit.restored import Restored, stored_statements
from identity.audit.tree import StoredTree
from identity.core.errors import Invalid, NotFound

HEADS_MAX = 100
LEAVES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That a record is leaf `seq` of the log under a signed head (RFC 9162 §2.1.3)."""

    record_id: UUID
    seq: int
    leaf_hash: bytes
    path: tuple[bytes, ...]

    @property
    def wire(self) -> dict[str, Any]:
        return {
            "id": str(self.record_id),
            "seq": self.seq,
            "leaf_hash": encode(self.leaf_hash),
            "path": [encode(one) for one in self.path],
        }


def encode(value: bytes) -> str:
    """Hashes go out in base64, as in heads."""
    return b64encode(value).decode()


def heads(connection: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """The newest heads with their notes and where they were sent, widest first."""
    rows = connection.execute(
        select(AuditHead.__table__).order_by(AuditHead.size.desc()).limit(max(1, min(limit, HEADS_MAX)))
    ).all()
    sizes = [row.size for row in rows]
    sent: dict[int, dict[str, datetime]] = {}
    for size, target, at in connection.execute(
        select(AuditAnchor.size, AuditAnchor.target, AuditAnchor.at).where(AuditAnchor.size.in_(sizes))
    ):
        sent.setdefault(size, {})[target] = at
    found = []
    for row in rows:
        head, note = stored_note(row)
        anchored = {target: stamp(at) for target, at in sorted(sent.get(row.size, {}).items())}
        found.append(
            {
                "size": head.size,
                "root": encode(head.root),
                "at": stamp(head.at),
                "epoch": head.epoch,
                "note": note,
                "anchored": anchored,
            }
        )
    return found


def restorations(connection: Connection) -> list[dict[str, Any]]:
    """What the database holds of the sealer's statements on restorations from a backup, oldest first; only the note's
    signature proves one."""
    found = []
    for note in stored_statements(connection):
        try:
            one = Restored.parse(note.rpartition("\n\n")[0] + "\n")
        except Invalid:
            continue
        found.append(
            {
                "epoch": one.epoch,
                "at": stamp(one.at),
                "backup": stamp(one.backup_at),
                "kept": one.kept,
                "lost": one.lost - one.kept,
                "by": one.by,
                "note": note,
            }
        )
    return found


def head_of(connection: Connection, size: int | None = None) -> tuple[Head, str]:
    """The head of this size, or the widest that was anchored (or else signed); raises `NotFound`."""
    query = select(AuditHead.__table__)
    if size is not None:
        row: Row[Any] | None = connection.execute(query.where(AuditHead.size == size)).first()
    else:
        order = (AuditHead.anchored_at.is_(None), AuditHead.size.desc())
        row = connection.execute(query.order_by(*order).limit(1)).first()
    if row is None:
        raise NotFound("There is no such head.")
    return stored_note(row)


def inclusion(connection: Connection, record_id: UUID, size: int) -> Inclusion:
    """The proof of one record in the tree of `size` leaves; raises `NotFound` when that tree does not hold it."""
    return inclusions(connection, [record_id], size)[0]


def inclusions(connection: Connection, record_ids: Sequence[UUID], size: int) -> list[Inclusion]:
    """The proofs of records in the tree of `size` leaves, in their order."""
    leaves: dict[UUID, tuple[int, bytes]] = {}
    for start in range(0, len(record_ids), LEAVES_AT_ONCE):
        part = record_ids[start : start + LEAVES_AT_ONCE]
        query = select(AuditLeaf.record_id, AuditLeaf.seq, AuditLeaf.leaf_hash)
        rows = connection.execute(query.where(AuditLeaf.record_id.in_(part), AuditLeaf.seq < size))
        for record_id, seq, digest in sorted(rows, key=lambda row: row.seq):
            leaves.setdefault(record_id, (seq, bytes(digest)))
    missing = next((one for one in record_ids if one not in leaves), None)
    if missing is not None:
        raise NotFound("The record is not under this head yet, or there is no such record.", str(missing))
    tree = StoredTree(connection)
    # In the log's order neighbours share what is read.
    paths = {seq: merkle.inclusion_proof(seq, size, tree.subtree) for seq in sorted(seq for seq, _ in leaves.values())}
    return [Inclusion(one, leaves[one][0], leaves[one][1], tuple(paths[leaves[one][0]])) for one in record_ids]


def consistency(connection: Connection, first: int, second: int) -> list[bytes]:
    """The proof that the log of `second` leaves grew out of that of `first` (RFC 9162 §2.1.4).

    Raises `Invalid` unless 0 < first <= second, and `NotFound` when there is no head of `second` leaves.
    """
    if not 0 < first <= second:
        raise Invalid("first must be at least 1 and not more than second.", code="proof_range")
    head_of(connection, second)
    return merkle.consistency_proof(first, second, StoredTree(connection).subtree)
