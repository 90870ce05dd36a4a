"""Directories and their runs."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, g, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.console import present, queries
from identity.console.inputs import parse_moment
from identity.console.routes_people import paging, reason_given
from identity.core.errors import Invalid, NotFound
from identity.core.unit import Units
from identity.core.web import open_unit, permission, redirect_to, use
from identity.directory.models import DirectorySource
from identity.sync.models import SyncRun
from identity.sync.run import run_source

bp = Blueprint("sync", __name__)

PLAN_SHOWN = 500


@bp.get("/admin/sync")
@permission("read", "sync")
def sync() -> Response:
    """Directories and their runs."""
    source, before = request.args.get("source", "")[:64], parse_moment(request.args.get("after", ""))
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        sources = list(unit.db.execute(select(DirectorySource).order_by(DirectorySource.code)).scalars())
        runs = queries.sync_runs(connection, source, before)
        last = {one.code: next(iter(queries.sync_runs(connection, one.code)), None) for one in sources}
    more = runs[queries.PAGE - 1].started_at.isoformat() if len(runs) > queries.PAGE else None
    return make_response(
        render_template(
            "console/sync.html",
            sources=sources,
            last=last,
            runs=runs[: queries.PAGE],
            source=source,
            paging=paging(more),
        )
    )


@bp.post("/admin/sync/<code>")
@permission("run", "sync")
def sync_run(code: str) -> Response:
    """Run a directory now, plan only, or apply a plan that the guard held."""
    mode = request.form.get("mode", "dry_run")
    if mode not in {"dry_run", "apply", "approved"}:
        raise Invalid("The form is not complete.", code="form")
    why = reason_given()[0] if mode == "approved" else None
    outcome = run_source(use(Units), code, g.actor, dry_run=mode == "dry_run", approved=mode == "approved", reason=why)
    return redirect_to(f"/admin/sync/runs/{outcome.run_id}")


@bp.get("/admin/sync/runs/<uuid:run_id>")
@permission("read", "sync")
def sync_plan(run_id: UUID) -> Response:
    """One run with its plan."""
    with open_unit(write=False) as unit:
        run = unit.db.get(SyncRun, run_id)
        source = unit.db.get(DirectorySource, run.source_id) if run else None
    if run is None or source is None:
        raise NotFound("There is no such run.")
    kind = request.args.get("kind", "")
    rows = [one for one in run.plan if not kind or one["kind"] == kind]
    return make_response(
        render_template(
            "console/sync_run.html",
            run=run,
            source=source,
            kind=kind,
            rows=[(one, present.plan_detail(one)) for one in rows[:PLAN_SHOWN]],
            hidden=max(len(rows) - PLAN_SHOWN, 0),
        )
    )
