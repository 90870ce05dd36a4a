"""How far the proof has come, and how long records wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from identity.audit.models import AuditAnchor, AuditHead, AuditLeaf, AuditRecord, AuditSeal
from identity.core.db import from_micros


@dataclass(frozen=True, slots=True)
class ProofStatus:
    """Sealed: in the tree. Anchored: under a head that has left the machine. `waiting_since`: the time of the oldest
    record that no anchored head covers; None when there is none."""

    sealed_size: int
    sealed_to: datetime | None
    anchored_size: int
    anchored_to: datetime | None
    waiting_since: datetime | None
    targets: tuple[tuple[str, int, datetime], ...]
    """(anchor, size of the widest head that it has, when it got it)"""

    def gap_s(self, now: datetime) -> float:
        """Seconds that the oldest unanchored record has waited."""
        return max(0.0, (now - self.waiting_since).total_seconds()) if self.waiting_since else 0.0


def proof_status(connection: Connection) -> ProofStatus:
    """The state of the proof now; a few reads by key."""
    seal = connection.execute(select(AuditSeal.__table__)).one()
    anchored = connection.execute(
        select(AuditHead.size, AuditHead.at)
        .where(AuditHead.anchored_at.is_not(None))
        .order_by(AuditHead.size.desc())
        .limit(1)
    ).first()
    size = anchored.size if anchored else 0
    waiting = connection.execute(select(AuditLeaf.at).where(AuditLeaf.seq == size)).scalar_one_or_none()
    return ProofStatus(
        seal.size,
        seal.sealed_to,
        size,
        anchored.at if anchored else None,
        waiting or _oldest_unsealed(connection, seal.position),
        _targets(connection),
    )


def _targets(connection: Connection) -> tuple[tuple[str, int, datetime], ...]:
    widest = select(AuditAnchor.target, func.max(AuditAnchor.size).label("size")).group_by(AuditAnchor.target)
    newest = widest.subquery()
    rows = connection.execute(
        select(AuditAnchor.target, AuditAnchor.size, AuditAnchor.at)
        .join(newest, (newest.c.target == AuditAnchor.target) & (newest.c.size == AuditAnchor.size))
        .order_by(AuditAnchor.target)
    )
    return tuple((row.target, row.size, row.at) for row in rows)


def _oldest_unsealed(connection: Connection, position: int) -> datetime | None:
    if connection.dialect.name == "postgresql":
        behind = text("xid::text::bigint >= :position")
        return connection.execute(select(func.min(AuditRecord.at)).where(behind), {"position": position}).scalar_one()
    row = connection.execute(
        text("SELECT at FROM audit_record WHERE rowid > :position ORDER BY rowid LIMIT 1"), {"position": position}
    ).first()
    return from_micros(row[0]) if row else None
