"""What an auditor hands over and is told of: reports, exports, saved searches, alarms."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast
from uuid import UUID

from flask import Blueprint, make_response, render_template, request, send_file
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.alarms.check import acknowledge
from identity.alarms.models import Alarm, AlarmSetting
from identity.alarms.rules import RULES
from identity.audit import export
from identity.audit.csv import BOM
from identity.audit.kinds import Kind
from identity.audit.saved import forget_search, save_search
from identity.console.inputs import parse_day
from identity.console.routes_audit import filter_of
from identity.core.errors import Invalid, Unavailable
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.web import csv_response, open_unit, permission, redirect_to, use
from identity.reports.catalogue import REPORTS
from identity.reports.models import ReportRun, ReportSchedule
from identity.reports.service import get, make

bp = Blueprint("reports", __name__)

RUNS_SHOWN = 50
ROWS_SHOWN = 200
DAYS = (7, 31, 92, 366)
MEMORY_MAX = 4_194_304
_places = threading.BoundedSemaphore(2)


@contextmanager
def export_place() -> Iterator[None]:
    """One of the two places for exports in this process; raises `Unavailable` when both are taken."""
    if not _places.acquire(blocking=False):
        raise Unavailable("Others are exporting right now. Please try again in a moment.", code="exports_busy")
    try:
        yield
    finally:
        _places.release()


@bp.get("/admin/reports")
@permission("read", "audit")
def reports() -> Response:
    """The standard reports, those made lately, and their schedules."""
    with open_unit(write=False) as unit:
        runs = list(unit.db.execute(select(ReportRun).order_by(ReportRun.made_at.desc()).limit(RUNS_SHOWN)).scalars())
        schedules = list(unit.db.execute(select(ReportSchedule).order_by(ReportSchedule.code)).scalars())
    return make_response(
        render_template("console/reports.html", reports=REPORTS, runs=runs, schedules=schedules, days=DAYS)
    )


@bp.post("/admin/reports")
@permission("export", "audit", fresh=True)
def make_report() -> Response:
    """Make one now."""
    days = request.form.get("days", "31")
    if days not in map(str, DAYS):
        raise Invalid("The form is not complete.", code="form")
    zone = use(Settings).zone
    at = parse_day(request.form.get("day", "")[:10], zone)
    with export_place(), open_unit() as unit:
        code, day = request.form.get("report", ""), at.date() if at else None
        run = make(unit, use(Access).snapshot(), code, int(days), zone, day=day)
    return redirect_to(f"/admin/reports/{run.id}")


@bp.get("/admin/reports/<uuid:run_id>")
@permission("read", "audit")
def report(run_id: UUID) -> Response:
    """A made report: what it asks, what it speaks of, its first rows."""
    with open_unit() as unit:
        run = get(unit, run_id)
    header, *rows = list(csv.reader(io.StringIO(run.content.removeprefix(BOM), newline="")))
    return make_response(
        render_template(
            "console/report.html",
            run=run,
            report=REPORTS[run.report],
            header=header,
            rows=rows[:ROWS_SHOWN],
            hidden=max(len(rows) - ROWS_SHOWN, 0),
        )
    )


@bp.get("/admin/reports/<uuid:run_id>/file")
@permission("export", "audit", fresh=True)
def report_file(run_id: UUID) -> Response:
    """The report as the file that its hash is of."""
    with open_unit() as unit:
        run = get(unit, run_id)
    return csv_response(run.content, f"{run.report}-{run.made_at:%Y%m%d-%H%M}")


@bp.post("/admin/audit/export")
@permission("export", "audit", fresh=True)
def export_search() -> Response:
    """What the search found, as CSV or JSON lines; the record of it holds the file's hash."""
    form, zone = request.form, use(Settings).zone
    kind = form.get("format", "")
    if kind not in {"csv", "jsonl"}:
        raise Invalid("The form is not complete.", code="form")
    with ExitStack() as on_failure:
        file = cast(BinaryIO, on_failure.enter_context(SpooledTemporaryFile(MEMORY_MAX)))
        with export_place(), open_unit(write=False) as unit:
            connection, now = unit.db.connection(), unit.now
            wanted = filter_of(unit, form, zone)
            done = (
                export.write_csv(connection, wanted, file, zone)
                if kind == "csv"
                else export.write_json_lines(connection, wanted, file)
            )
            shown = {name: value for name, value in form.items() if value and name not in {"csrf_token", "format"}}
            data = {"filter": shown, "format": kind, "rows": done.rows, "sha256": done.sha256}
            unit.record(Record(kind=Kind.AUDIT_EXPORTED, result="success", data=data))
        on_failure.pop_all()
    file.seek(0)
    media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
    response = send_file(file, media, as_attachment=True, download_name=f"audit-{now:%Y%m%d-%H%M}.{kind}")
    response.headers["Digest"] = f"sha-256={done.sha256}"
    return response


@bp.post("/admin/audit/saved")
@permission("read", "audit")
def save() -> Response:
    """Keep a search under a name."""
    form = request.form
    with open_unit() as unit:
        save_search(unit, form.get("name", ""), form, shared=form.get("shared") == "yes")
    return redirect_to("/admin/audit")


@bp.post("/admin/audit/saved/<uuid:search_id>/forget")
@permission("read", "audit")
def forget(search_id: UUID) -> Response:
    """Drop one's own saved search."""
    with open_unit() as unit:
        forget_search(unit, search_id)
    return redirect_to("/admin/audit")


@bp.get("/admin/alarms")
@permission("read", "audit")
def alarms() -> Response:
    """Raised alarms, newest first, and how each rule is set."""
    with open_unit(write=False) as unit:
        rows = list(unit.db.execute(select(Alarm).order_by(Alarm.raised_at.desc()).limit(200)).scalars())
        settings = {row.rule: row for row in unit.db.execute(select(AlarmSetting)).scalars()}
    return make_response(render_template("console/alarms.html", rows=rows, rules=RULES, settings=settings))


@bp.post("/admin/alarms/<uuid:alarm_id>/seen")
@permission("read", "audit")
def seen(alarm_id: UUID) -> Response:
    """Somebody has seen it."""
    with open_unit() as unit:
        acknowledge(unit, alarm_id)
    return redirect_to("/admin/alarms")
