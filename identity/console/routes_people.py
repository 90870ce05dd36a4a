"""Administration of people and groups, and the page where the console begins."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access, AccessRequest
from identity.access.snapshot import Snapshot
from identity.apps.registry import Registry
from identity.console import present, profile, queries, words
from identity.core.errors import Invalid, NotFound
from identity.core.unit import Unit
from identity.core.web import open_unit, permission, redirect_to, request_now, use
from identity.directory.models import DirectorySource
from identity.login.logout import LogoutNotifiers, end_session, end_sessions_of_user
from identity.login.mfa import has_factor, take_factor
from identity.people.models import Group
from identity.people.service import set_user_state
from identity.roles.mapping import BUSINESS, CONSOLE_APPLICATION, group_paths
from identity.roles.service_administrators import is_administrator
from identity.roles.service_assignments import check_administrators_stay

bp = Blueprint("people", __name__)


@bp.get("/admin")
@permission("sso", "application")
def overview() -> Response:
    """Where the console begins."""
    snapshot = use(Access).snapshot()
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        runs = queries.sync_runs(connection)[:5]
        sources = connection.execute(select(DirectorySource.code)).scalars().all()
        last = {code: next(iter(queries.sync_runs(connection, code)), None) for code in sources}
    return make_response(
        render_template(
            "console/overview.html",
            users=len(snapshot.users),
            active=sum(snapshot.is_active(one, request_now()) for one in snapshot.users),
            version=snapshot.policy_version,
            mappings=len(snapshot.content.mappings),
            applications=len(use(Registry).current().by_code),
            revision=snapshot.facts_revision,
            runs=runs,
            attention=[(code, run) for code, run in last.items() if run is None or run.state in {"held", "failed"}],
        )
    )


@bp.get("/admin/users")
@permission("read", "user")
def users() -> Response:
    """Search users."""
    args = request.args
    text, after = args.get("q", "").strip()[:100], args.get("after", "")[:256]
    state = args.get("state", "") if args.get("state") in {"active", "disabled", "deleted"} else ""
    department = args.get("department", "")[:64]
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        rows, total = queries.users(connection, text, state, department, after)
        departments = queries.departments(connection)
    return make_response(
        render_template(
            "console/users.html",
            rows=rows[: queries.PAGE],
            total=total,
            departments=departments,
            args=args,
            paging=paging(rows[queries.PAGE - 1].login_key if len(rows) > queries.PAGE else None),
        )
    )


@bp.get("/admin/users/<uuid:user_id>")
@permission("read", "user")
def user(user_id: UUID) -> Response:
    """One user: state, employment, groups, roles and how each came about, sessions."""
    snapshot = use(Access).snapshot()
    found = snapshot.user(user_id)
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        row = queries.user(connection, user_id)
        if row is None or found is None:
            raise NotFound("There is no such user.")
        groups = queries.group_ids(connection, group_paths(found.identity.facts.groups, snapshot.world.group_parents))
        roles = _allowed(unit, "read", "assignment", user_id)
        shows = _allowed(unit, "read", "session", user_id)
        seen = queries.live_sessions(connection, user_id, unit.now) if shows else []
        apps = queries.participants(connection, [one.id for one in seen])
        values = {
            "jobs": queries.employments(connection, user_id),
            "sources": queries.source_accounts(connection, user_id),
            "profile": profile.fields(unit, user_id),
            "factor": has_factor(connection, user_id),
            "administrator": is_administrator(unit, user_id),
            "held": present.held(
                found.derivations, queries.role_titles(connection), groups, queries.assigned_by(connection, user_id)
            )
            if roles
            else None,
            "access": _applications(snapshot, user_id, queries.app_accounts(connection, user_id)) if roles else [],
        }
    return make_response(
        render_template(
            "console/user.html",
            user=row,
            facts=found.identity.facts,
            groups=groups,
            sessions=seen,
            apps=apps,
            by_code=use(Registry).current().by_code,
            business=f"{BUSINESS}:",
            **values,
        )
    )


def _allowed(unit: Unit, action: str, resource_type: str, resource_id: UUID) -> bool:
    """Whether the viewer may see this part of a page; decided and recorded like the page itself."""
    wanted = AccessRequest(CONSOLE_APPLICATION, unit.actor.user, resource_type, str(resource_id), action)
    return use(Access).decide(unit, wanted).permit


def _applications(snapshot: Snapshot, user_id: UUID, accounts: dict[str, object]) -> list[tuple[object, ...]]:
    """(application, whether the user may enter it, roles in it under its own names, its account)."""
    now, access = request_now(), use(Access)
    return [
        (
            app,
            access.peek(AccessRequest(app.code, user_id, "application", app.code, "sso"), now),
            snapshot.roles_in(user_id, app.code, now),
            accounts.get(app.code),
        )
        for app in sorted(use(Registry).current().by_code.values(), key=lambda one: one.code)
    ]


@bp.post("/admin/users/<uuid:user_id>/state")
@permission("write", "user", fresh=True)
def user_state(user_id: UUID) -> Response:
    """Disable or enable, with a reason; disabling ends every session."""
    state = request.form.get("state", "")
    if state not in {"active", "disabled"}:
        raise Invalid("The form is not complete.", code="form")
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        if state == "disabled":
            check_administrators_stay(unit, user_id)
        set_user_state(unit, user_id, state, cause="console")
        if state == "disabled":
            end_sessions_of_user(unit, user_id, "user_disabled", use(LogoutNotifiers))
    return redirect_to(f"/admin/users/{user_id}")


@bp.post("/admin/users/<uuid:user_id>/factor/remove")
@permission("write", "user", fresh=True)
def factor_remove(user_id: UUID) -> Response:
    """Take a lost second factor away; sessions end, and who owes one adds a new one at the next sign-in."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        unit.require("write", "user", str(user_id))
        take_factor(unit, user_id)
        end_sessions_of_user(unit, user_id, "factor_removed", use(LogoutNotifiers))
    return redirect_to(f"/admin/users/{user_id}")


def reason_given() -> tuple[str, str | None]:
    """The reason and the reference of a change; raises `Invalid` without a reason."""
    why = request.form.get("reason", "").strip()
    if not why:
        raise Invalid("Please give a reason.", code="reason_missing")
    return why[:500], request.form.get("reference", "").strip()[:100] or None


@bp.post("/admin/sessions/<uuid:session_id>/end")
@permission("write", "session")
def session_end(session_id: UUID) -> Response:
    """End somebody's session."""
    with open_unit(reason="ended in the console") as unit:
        unit.require("write", "session", str(session_id))
        end_session(unit, session_id, "ended_by_admin", use(LogoutNotifiers))
    return redirect_to(f"/admin/users/{request.form.get('user', '')}#sessions")


@bp.get("/admin/groups")
@permission("read", "group")
def groups() -> Response:
    """All groups."""
    text, after = request.args.get("q", "").strip()[:100], request.args.get("after", "")[:256]
    with open_unit(write=False) as unit:
        rows = queries.groups(unit.db.connection(), text, after)
    return make_response(
        render_template(
            "console/groups.html",
            rows=rows[: queries.PAGE],
            args=request.args,
            paging=paging(rows[queries.PAGE - 1].name if len(rows) > queries.PAGE else None),
        )
    )


@bp.get("/admin/groups/<uuid:group_id>")
@permission("read", "group")
def group(group_id: UUID) -> Response:
    """One group: its members, the groups around it, and the roles that it leads to."""
    snapshot = use(Access).snapshot()
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        row = unit.db.get(Group, group_id)
        if row is None:
            raise NotFound("There is no such group.")
        people = queries.group_members(connection, group_id, request.args.get("after", "")[:256])
        nested, above = queries.neighbours(connection, group_id)
        source = unit.db.get(DirectorySource, row.source_id) if row.source_id else None
        shown = _allowed(unit, "read", "mapping", group_id)
        titles = queries.role_titles(connection)
    leads = [one for one in snapshot.content.mappings if (one.source_kind, one.source) == ("group", row.name)]
    return make_response(
        render_template(
            "console/group.html",
            group=row,
            source=source,
            people=people[: queries.PAGE],
            nested=nested,
            above=above,
            leads=[(one, words.role_title(one.role, titles)) for one in leads] if shown else None,
            paging=paging(people[queries.PAGE - 1].login_key if len(people) > queries.PAGE else None),
        )
    )


def paging(after: str | None) -> dict[str, object]:
    """What the foot of a list needs: the page's other arguments, the key of the next one, whether it is the first."""
    kept = {name: value for name, value in request.args.items() if name != "after" and value}
    return {"kept": kept, "after": after, "first": "after" not in request.args}
