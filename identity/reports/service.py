"""Make a report, keep it, find it again; schedules."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.access.past import at_day
from identity.access.snapshot import Snapshot
from identity.audit import csv
from identity.audit.kinds import Kind
from identity.audit.models import AuditHead
from identity.audit.query import complete_to
from identity.core.cron import has_passed
from identity.core.errors import NotFound
from identity.core.i18n import gettext
from identity.core.record import Record
from identity.core.rows import put_recorded
from identity.core.unit import Unit
from identity.reports.catalogue import REPORTS, Source
from identity.reports.inputs import ScheduleInput
from identity.reports.models import ReportRun, ReportSchedule


def make(unit: Unit, snapshot: Snapshot, code: str, days: int, zone: tzinfo, *, day: date | None = None) -> ReportRun:
    """A new report about the last `days` days, in the request's language; with `day`, one that can speak of a date says
    what held at its end, as known then. Raises `NotFound` for an unknown report or a day of which nothing is known.
    """
    report = REPORTS.get(code)
    if report is None:
        raise NotFound("There is no such report.")
    unit.require("export", "audit", code)
    connection = unit.db.connection()
    since, until = unit.now - timedelta(days=days), unit.now
    parameters: dict[str, Any] = {}
    if report.period:
        parameters = {"days": days, "since": since.isoformat(), "until": until.isoformat()}
    if report.dated and day is not None:
        past = at_day(connection, day, zone, unit.now)
        snapshot, until = past.snapshot, past.moment
        parameters = {"day": day.isoformat(), "at": until.isoformat()}
    rows = list(report.rows(Source(connection, snapshot, since, until)))
    content = "".join(csv.lines([gettext(one) for one in report.columns], rows, zone))
    head = connection.execute(select(AuditHead.size, AuditHead.root).order_by(AuditHead.size.desc()).limit(1)).first()
    run = ReportRun(
        report=code,
        parameters=parameters,
        question=report.question,
        made_at=unit.now,
        made_by=unit.actor.id,
        row_count=len(rows),
        facts_revision=snapshot.facts_revision,
        policy_version=snapshot.policy_version,
        complete_to=complete_to(connection),
        tree_size=head.size if head else 0,
        tree_root=head.root if head else None,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        content=content,
    )
    unit.db.add(run)
    unit.db.flush()
    unit.record(
        Record(
            kind=Kind.REPORT_MADE,
            result="success",
            resource_type="report",
            resource_id=str(run.id),
            data={"report": code, "rows": len(rows), "sha256": run.sha256, **parameters},
        )
    )
    return run


def get(unit: Unit, run_id: UUID) -> ReportRun:
    """A made report; reading it is recorded. Raises `NotFound`."""
    unit.require("export", "audit", str(run_id))
    run = unit.db.get(ReportRun, run_id)
    if run is None:
        raise NotFound("There is no such report.")
    unit.record(
        Record(
            kind=Kind.REPORT_READ,
            result="success",
            resource_type="report",
            resource_id=str(run_id),
            data={"report": run.report},
        )
    )
    return run


def put_schedule(unit: Unit, wanted: ScheduleInput, *, managed_by: str = "console") -> ReportSchedule:
    """The schedule with this code is as given; made when it is new."""
    unit.require("write", "setting", f"report/{wanted.code}")
    values: dict[str, Any] = {**wanted.model_dump(mode="json", exclude={"code"}), "managed_by": managed_by}
    return put_recorded(
        unit, ReportSchedule, wanted.code, values, kind=Kind.SCHEDULE_CHANGED, resource_type="report_schedule"
    )


def due(schedule: ReportSchedule, now: datetime, zone: tzinfo) -> bool:
    """Whether a time of its cron expression lies between the last making (or its creation) and `now`."""
    return has_passed(schedule.cron, schedule.last_made_at or schedule.created_at, now, zone)
