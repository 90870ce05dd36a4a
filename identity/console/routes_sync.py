"""Directories: what runs, what is planned; approve, reject, undo, resume, decide."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, g, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.console import present, queries, queries_sync
from identity.console.inputs import parse_moment
from identity.console.routes_people import paging, reason_given
from identity.core.errors import Invalid, NotFound, TesseraError
from identity.core.unit import Unit, Units
from identity.core.web import csv_response, open_unit, permission, redirect_to, use
from identity.directory.models import DirectorySource
from identity.sync import review, trials
from identity.sync.models import SyncRun
from identity.sync.only import Only
from identity.sync.run import run_source
from identity.sync.work import find_source

bp = Blueprint("sync", __name__)


@bp.get("/admin/sync")
@permission("read", "sync")
def sync() -> Response:
    """Directories, how fresh they are, and their runs."""
    source, before = request.args.get("source", "")[:64], parse_moment(request.args.get("after", ""))
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        sources = list(unit.db.execute(select(DirectorySource).order_by(DirectorySource.code)).scalars())
        runs = queries.sync_runs(connection, source, before)
        last = {one.code: next(iter(queries.sync_runs(connection, one.code)), None) for one in sources}
        states = queries_sync.states(connection)
        unwritten = queries_sync.write_back_counts(connection)
    more = runs[queries.PAGE - 1].started_at.isoformat() if len(runs) > queries.PAGE else None
    return make_response(
        render_template(
            "console/sync.html",
            sources=sources,
            last=last,
            states=states,
            unwritten=unwritten,
            runs=runs[: queries.PAGE],
            source=source,
            paging=paging(more),
        )
    )


@bp.post("/admin/sync/<code>")
@permission("run", "sync")
def sync_run(code: str) -> Response:
    """Run a directory now, plan only, read everything, or only one user."""
    mode = request.form.get("mode", "dry_run")
    if mode not in {"dry_run", "apply", "full", "check"}:
        raise Invalid("The form is not complete.", code="form")
    login = request.form.get("login", "").strip()[:128]
    only = Only(login=login) if login else None
    way = "apply" if mode == "full" else mode
    outcome = run_source(use(Units), code, g.actor, mode=way, full=mode == "full" or None, only=only)
    return redirect_to(f"/admin/sync/runs/{outcome.run_id}")


@bp.get("/admin/sync/<code>/try")
@permission("run", "sync")
def sync_try(code: str) -> Response:
    """One entry as the directory says it, as we take it, and what an expression would make of it. Nothing is kept."""
    login, field = request.args.get("login", "").strip()[:128], request.args.get("field", "name")
    expression = request.args.get("expression", "").strip()[:1_024]
    with open_unit(write=False) as unit:
        source = find_source(unit, code)
        unit.db.expunge(source)
    trial, problem = None, None
    if login:
        try:
            trial = trials.try_entry(source, login, field, expression or None)
        except TesseraError as error:
            problem = error
    return make_response(
        render_template(
            "console/sync_try.html",
            source=source,
            login=login,
            field=field,
            fields=trials.USER_FIELDS,
            expression=expression,
            trial=trial,
            problem=problem,
        )
    )


@bp.get("/admin/sync/<code>/probe")
@permission("run", "sync")
def sync_probe(code: str) -> Response:
    """Try each right that the directory must give us, and say how changes will be found."""
    with open_unit(write=False) as unit:
        source = find_source(unit, code)
        unit.db.expunge(source)
    return make_response(render_template("console/sync_probe.html", source=source, probe=trials.probe_source(source)))


@bp.post("/admin/sync/<code>/resume")
@permission("run", "sync", fresh=True)
def sync_resume(code: str) -> Response:
    """Let a paused directory run by itself again."""
    why, reference = reason_given()
    review.resume(use(Units), code, g.actor, why, reference)
    return redirect_to("/admin/sync")


@bp.get("/admin/sync/runs/<uuid:run_id>")
@permission("read", "sync")
def sync_plan(run_id: UUID) -> Response:
    """One run: its plan by kind and by user, and what it means for roles and sessions."""
    kind, text = request.args.get("kind", "")[:32], request.args.get("q", "")[:100]
    after = request.args.get("after", 0, type=int)
    with open_unit(write=False) as unit:
        run, source = _run(unit, run_id)
        connection = unit.db.connection()
        rows = queries_sync.changes(connection, run_id, kind, text, after)
        sessions = queries_sync.sessions_ending(connection, run_id, source.id, unit.now)
    return make_response(
        render_template(
            "console/sync_run.html",
            run=run,
            source=source,
            kind=kind,
            q=text,
            rows=[(one, present.plan_detail(one.before, one.after)) for one in rows[: queries_sync.PAGE]],
            sessions=sessions,
            paging=paging(str(rows[queries_sync.PAGE - 1].seq) if len(rows) > queries_sync.PAGE else None),
        )
    )


@bp.get("/admin/sync/runs/<uuid:run_id>/plan.csv")
@permission("read", "sync")
def sync_download(run_id: UUID) -> Response:
    """The whole plan as a table."""
    with open_unit(write=False) as unit:
        _run(unit, run_id)
        text = queries_sync.plan_csv(unit.db.connection(), run_id)
    return csv_response(text, f"plan-{run_id}")


@bp.post("/admin/sync/runs/<uuid:run_id>/review")
@permission("run", "sync", fresh=True)
def sync_review(run_id: UUID) -> Response:
    """Approve or reject exactly this plan, or take an applied run back."""
    (why, reference), verdict = reason_given(), request.form.get("verdict", "")
    if verdict == "approve":
        review.approve(use(Units), run_id, g.actor, why, reference)
    elif verdict == "reject":
        review.reject(use(Units), run_id, g.actor, why, reference)
    elif verdict == "undo":
        run_id = review.undo(use(Units), run_id, g.actor, why, reference).run_id
    else:
        raise Invalid("The form is not complete.", code="form")
    return redirect_to(f"/admin/sync/runs/{run_id}")


@bp.post("/admin/sync/runs/<uuid:run_id>/retry")
@permission("run", "sync")
def sync_retry(run_id: UUID) -> Response:
    """Plan and apply again what could not be done in this run."""
    return redirect_to(f"/admin/sync/runs/{review.retry(use(Units), run_id, g.actor).run_id}")


@bp.post("/admin/sync/runs/<uuid:run_id>/decide")
@permission("run", "sync", fresh=True)
def sync_decide(run_id: UUID) -> Response:
    """Decide about an entry in conflict; the next run does it."""
    why, reference = reason_given()
    login = request.form.get("login", "").strip()[:128] or None
    with open_unit(reason=why, reference=reference) as unit:
        _, source = _run(unit, run_id)
        entry, action = request.form.get("entry", "")[:256], request.form.get("action", "")
        review.decide(unit, source.code, entry, action, login, why)
    return redirect_to(f"/admin/sync/runs/{run_id}?kind=conflict")


def _run(unit: Unit, run_id: UUID) -> tuple[SyncRun, DirectorySource]:
    run = unit.db.get(SyncRun, run_id)
    source = unit.db.get(DirectorySource, run.source_id) if run else None
    if run is None or source is None:
        raise NotFound("There is no such run.")
    return run, source
