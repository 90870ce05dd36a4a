"""Administration of people, groups and directories."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, g, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.console import queries
from identity.core.errors import Invalid, NotFound
from identity.core.unit import Units
from identity.core.web import open_unit, permission, redirect_to, request_now, use
from identity.directory.models import DirectorySource
from identity.login.logout import LogoutNotifiers, end_session, end_sessions_of_user
from identity.people.models import Group
from identity.people.service import set_user_state
from identity.sync.models import SyncRun
from identity.sync.run import run_source

bp = Blueprint("people", __name__)


@bp.get("/admin")
@permission("sso", "application")
def overview() -> Response:
    """Where the console begins."""
    snapshot = use(Access).snapshot()
    with open_unit(write=False) as unit:
        runs = queries.sync_runs(unit.db.connection())[:5]
    return make_response(
        render_template(
            "console/overview.html",
            users=len(snapshot.users),
            active=sum(snapshot.is_active(one, request_now()) for one in snapshot.users),
            version=snapshot.policy_version,
            revision=snapshot.facts_revision,
            runs=runs,
        )
    )


@bp.get("/admin/users")
@permission("read", "user")
def users() -> Response:
    """Search users."""
    text, after = request.args.get("q", "")[:100], request.args.get("after", "")[:256]
    with open_unit(write=False) as unit:
        rows = queries.users(unit.db.connection(), text, after)
    more = rows[queries.PAGE - 1].login.casefold() if len(rows) > queries.PAGE else None
    return make_response(render_template("console/users.html", rows=rows[: queries.PAGE], q=text, more=more))


@bp.get("/admin/users/<uuid:user_id>")
@permission("read", "user")
def user(user_id: UUID) -> Response:
    """One user: state, employment, groups, roles and whence they come, sessions."""
    snapshot = use(Access).snapshot()
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        row = queries.user(connection, user_id)
        sessions = queries.live_sessions(connection, user_id, unit.now)
    found = snapshot.user(user_id)
    if row is None or found is None:
        raise NotFound("There is no such user.")
    return make_response(render_template("console/user.html", user=row, facts=found, sessions=sessions))


@bp.post("/admin/users/<uuid:user_id>/state")
@permission("write", "user", fresh=True)
def user_state(user_id: UUID) -> Response:
    """Disable or enable, with a reason; disabling ends every session."""
    state, reason = request.form.get("state", ""), request.form.get("reason", "").strip()
    if state not in {"active", "disabled"} or not reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    with open_unit(reason=reason[:500], reference=request.form.get("reference", "")[:100] or None) as unit:
        set_user_state(unit, user_id, state, cause="console")
        if state == "disabled":
            end_sessions_of_user(unit, user_id, "user_disabled", use(LogoutNotifiers))
    return redirect_to(f"/admin/users/{user_id}")


@bp.post("/admin/sessions/<uuid:session_id>/end")
@permission("write", "session")
def session_end(session_id: UUID) -> Response:
    """End somebody's session."""
    with open_unit(reason="ended in the console") as unit:
        unit.require("write", "session", str(session_id))
        end_session(unit, session_id, "ended_by_admin", use(LogoutNotifiers))
    return redirect_to(f"/admin/users/{request.form.get('user', '')}")


@bp.get("/admin/groups")
@permission("read", "group")
def groups() -> Response:
    """All groups."""
    text = request.args.get("q", "")[:100]
    with open_unit(write=False) as unit:
        rows = queries.groups(unit.db.connection(), text)
    return make_response(render_template("console/groups.html", rows=rows, q=text))


@bp.get("/admin/groups/<uuid:group_id>")
@permission("read", "group")
def group(group_id: UUID) -> Response:
    """One group with its members."""
    with open_unit(write=False) as unit:
        row = unit.db.get(Group, group_id)
        people, nested = queries.group_members(unit.db.connection(), group_id)
    if row is None:
        raise NotFound("There is no such group.")
    return make_response(render_template("console/group.html", group=row, people=people, nested=nested))


@bp.get("/admin/sync")
@permission("read", "sync")
def sync() -> Response:
    """Directories and their runs."""
    with open_unit(write=False) as unit:
        sources = list(unit.db.execute(select(DirectorySource).order_by(DirectorySource.code)).scalars())
        runs = queries.sync_runs(unit.db.connection())
    return make_response(render_template("console/sync.html", sources=sources, runs=runs))


@bp.post("/admin/sync/<code>")
@permission("run", "sync")
def sync_run(code: str) -> Response:
    """Run a directory now, plan only, or apply a plan that the guard held."""
    mode = request.form.get("mode", "dry_run")
    reason = request.form.get("reason", "").strip()[:500]
    if mode == "approved" and not reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    outcome = run_source(
        use(Units),
        code,
        g.actor,
        dry_run=mode == "dry_run",
        approved=mode == "approved",
        reason=reason or None,
    )
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
    return make_response(render_template("console/sync_run.html", run=run, source=source))
