"""Retention: what is older than its time goes, by whole months and classes, after the sealer has signed a tombstone.

Runs as the owner of the tables. Redaction erases personal values and leaves the proof whole. Both are recorded, with
their reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, delete, exists, func, insert, select, text, tuple_, update

from identity.audit.index import forget, index_one
from identity.audit.kinds import CLASSES, Kind
from identity.audit.models import AuditFind, AuditPersonal, AuditPurge, AuditRecord, AuditTombstone, AuditWord
from identity.audit.packs import drop_personal
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from identity.core.unit import Unit


def request_purges(unit: Unit, days: int) -> int:
    """Ask for what has become older than `days`; the number of months asked for anew. The Unit carries the reason.

    A change of `days` since the last time is recorded.
    """
    connection, reason = unit.db.connection(), _reason(unit)
    before = connection.execute(
        select(AuditPurge.days).order_by(AuditPurge.requested_at.desc()).limit(1)
    ).scalar_one_or_none()
    limit = unit.now - timedelta(days=days)
    made = 0
    for name in CLASSES:
        for start, end in _months(connection, name, limit):
            known = exists().where(AuditPurge.retention_class == name, AuditPurge.from_at == start)
            there = exists().where(AuditRecord.retention_class == name, AuditRecord.at >= start, AuditRecord.at < end)
            if connection.execute(select(~known & there)).scalar_one():
                connection.execute(
                    insert(AuditPurge).values(
                        {
                            "class": name,
                            "from_at": start,
                            "until_at": end,
                            "days": days,
                            "reason": reason,
                            "requested_at": unit.now,
                        }
                    )
                )
                made += 1
    if before not in {None, days}:
        unit.record(
            Record(kind=Kind.RETENTION_CHANGED, result="success", before={"days": before}, after={"days": days})
        )
    return made


def purge_buried(unit: Unit) -> int:
    """Remove what has its tombstone; the number of months removed."""
    connection = unit.db.connection()
    stone = exists().where(
        AuditTombstone.retention_class == AuditPurge.retention_class, AuditTombstone.from_at == AuditPurge.from_at
    )
    rows = connection.execute(select(AuditPurge.__table__).where(AuditPurge.purged_at.is_(None), stone)).all()
    for row in rows:
        name, start, end = row._mapping["class"], row.from_at, row.until_at
        remove = _drop if connection.dialect.name == "postgresql" else _delete
        remove(connection, name, start, end)
        inside = (AuditFind.retention_class == name, AuditFind.at >= start, AuditFind.at < end)
        gone = select(AuditFind.at, AuditFind.record_id).where(*inside)
        connection.execute(delete(AuditWord).where(tuple_(AuditWord.at, AuditWord.record_id).in_(gone)))
        connection.execute(delete(AuditFind).where(*inside))
        connection.execute(
            update(AuditPurge)
            .where(AuditPurge.retention_class == name, AuditPurge.from_at == start)
            .values(purged_at=unit.now)
        )
        unit.record(
            Record(
                kind=Kind.AUDIT_PURGED,
                result="success",
                resource_type="audit",
                resource_id=f"{name} {start:%Y-%m}",
                data={"class": name, "from": start.isoformat(), "until": end.isoformat(), "days": row.days},
            )
        )
    return len(rows)


def redact(unit: Unit, record_id: UUID, fields: Sequence[str]) -> None:
    """Erase personal values of a record with their salts, so that nobody can guess them back from the hashes.

    The record's body, and with it the proof, stays as it is; that they were erased is recorded. Raises `NotFound` when
    the record holds none of these fields.
    """
    connection = unit.db.connection()
    _reason(unit)
    found = connection.execute(
        select(AuditFind.retention_class, AuditFind.at).where(AuditFind.record_id == record_id).limit(1)
    ).first()
    if found is None:
        raise NotFound("There is no such record, or it cannot be found yet.")
    of_record = (
        AuditPersonal.retention_class == found[0],
        AuditPersonal.at == found[1],
        AuditPersonal.record_id == record_id,
    )
    forget(connection, found[0], found[1], record_id)
    done = connection.execute(
        update(AuditPersonal)
        .where(*of_record, AuditPersonal.field.in_(fields), AuditPersonal.value.is_not(None))
        .values(value=None, salt=b"")
    )
    if done.rowcount != len(set(fields)):
        raise NotFound("The record does not hold these personal values.", ", ".join(fields))
    index_one(connection, found[0], found[1], record_id)
    drop_personal(connection)
    unit.record(
        Record(
            kind=Kind.AUDIT_REDACTED,
            result="success",
            resource_type="audit",
            resource_id=str(record_id),
            data={"fields": sorted(set(fields))},
        )
    )


def _reason(unit: Unit) -> str:
    if not unit.reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    return unit.reason


def _months(connection: Connection, name: str, limit: datetime) -> list[tuple[datetime, datetime]]:
    """The months (UTC) of a class that end before the limit, from its oldest record on."""
    oldest = connection.execute(
        select(func.min(AuditRecord.at)).where(AuditRecord.retention_class == name)
    ).scalar_one_or_none()
    months: list[tuple[datetime, datetime]] = []
    if oldest is None:
        return months
    start = datetime(oldest.year, oldest.month, 1, tzinfo=UTC)
    while (end := (start + timedelta(days=32)).replace(day=1)) <= limit:
        months.append((start, end))
        start = end
    return months


def _drop(connection: Connection, name: str, start: datetime, end: datetime) -> None:
    """PostgreSQL: the month's partitions go whole; what lies in the class's rest goes by rows."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for base in ("audit_record", "audit_personal"):
        part, rest = quote(f"{base}_{name}_{start:%Y_%m}"), quote(f"{base}_{name}_rest")
        connection.execute(text(f"DROP TABLE IF EXISTS {part}"))
        within = {"low": start, "high": end}
        stray = text(f"SELECT EXISTS (SELECT FROM {rest} WHERE at >= :low AND at < :high)")  # noqa: S608
        if connection.execute(stray, within).scalar_one():
            connection.execute(text(f"ALTER TABLE {rest} DISABLE TRIGGER USER"))
            connection.execute(text(f"DELETE FROM {rest} WHERE at >= :low AND at < :high"), within)  # noqa: S608
            connection.execute(text(f"ALTER TABLE {rest} ENABLE TRIGGER USER"))


def _delete(connection: Connection, name: str, start: datetime, end: datetime) -> None:
    """SQLite: by rows; the triggers are lifted inside this transaction only."""
    triggers = ("audit_record_no_delete", "audit_personal_no_delete")
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name IN (:one, :two)")
    saved = connection.execute(query, {"one": triggers[0], "two": triggers[1]}).all()
    for trigger, _ in saved:
        connection.execute(text(f"DROP TRIGGER {trigger}"))
    for table in (AuditRecord, AuditPersonal):
        connection.execute(delete(table).where(table.retention_class == name, table.at >= start, table.at < end))
    for _, statement in saved:
        connection.exec_driver_sql(statement)
