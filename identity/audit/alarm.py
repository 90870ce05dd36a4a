"""The alarm on the proof: records wait too long for a head that has left the machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from identity.audit.kinds import Kind
from identity.audit.models import AuditFind
from identity.audit.status import proof_status
from identity.core.record import Actor, Record
from identity.core.unit import Units

_log = logging.getLogger(__name__)


def watch_gap(units: Units, bound_s: int, now: datetime) -> bool:
    """Record when the gap passes its bound, and when it is small again; whether it is too wide now."""
    with units.open(Actor.system("worker:audit-gap"), now=now) as unit:
        connection = unit.db.connection()
        gap_s = proof_status(connection).gap_s(now)
        late = gap_s > bound_s
        if late != _told(connection):
            kind = Kind.ANCHOR_LATE if late else Kind.ANCHOR_RECOVERED
            unit.record(
                Record(
                    kind=kind,
                    result="failed" if late else "success",
                    resource_type="audit",
                    data={"gap_s": round(gap_s), "bound_s": bound_s},
                )
            )
    if late:
        _log.error("a record has waited %d s for an anchored head (bound %d s)", gap_s, bound_s)
    return late


def gap_state(connection: Connection, bound_s: int, now: datetime) -> Mapping[str, Any]:
    """What readiness says of the proof."""
    gap_s = proof_status(connection).gap_s(now)
    return {"audit_gap_s": round(gap_s), "audit_gap": "late" if gap_s > bound_s else "ok"}


def recording_state(connection: Connection, now: datetime) -> Mapping[str, Any]:
    """What the metrics say of the record as a whole: the proof's gap, and how many records of missing decisions there
    are (each has its own count)."""
    missed = select(func.count()).where(AuditFind.kind == Kind.DECISIONS_MISSED.value)
    return {
        "audit_gap_s": round(proof_status(connection).gap_s(now)),
        "decisions_missed_records": connection.execute(missed).scalar_one(),
    }


def _told(connection: Connection) -> bool:
    """Whether the last word on it was that it is late."""
    kinds = (Kind.ANCHOR_LATE.value, Kind.ANCHOR_RECOVERED.value)
    last = connection.execute(
        select(AuditFind.kind)
        .where(AuditFind.kind.in_(kinds))
        .order_by(AuditFind.at.desc(), AuditFind.record_id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return last == Kind.ANCHOR_LATE.value
