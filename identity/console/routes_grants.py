"""Direct assignments, the rights to grant them, and administration roles by two persons."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.administration import bounds_of
from identity.access.console import CONSOLE_ROLES
from identity.access.decide import Access
from identity.console import queries
from identity.console.inputs import parse_day, valid
from identity.console.routes_people import reason_given
from identity.console.routes_policy import answer_given
from identity.core.errors import Invalid, NotFound
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import current_actor, open_unit, permission, redirect_to, request_now, use
from identity.people.models import Group, OrgUnit, Position, User
from identity.people.service import find_user_by_login
from identity.roles.delegation import POWERS
from identity.roles.inputs import AdminGrantInput, AssignmentInput, ProposalInput
from identity.roles.models import AdminGrant, AdminProposal, Assignment, Role
from identity.roles.service_admin_grants import add_admin_grant, revoke_admin_grant
from identity.roles.service_administrators import decide, propose
from identity.roles.service_assignments import assign, revoke
from policies import Amount

bp = Blueprint("grants", __name__)

SHOWN = 500


@bp.get("/admin/assignments")
@permission("read", "assignment")
def assignments() -> Response:
    """Roles that were assigned directly: all of them, or those of roles that one may grant."""
    snapshot = use(Access).snapshot()
    actor = current_actor().user
    user = snapshot.users.get(actor) if actor is not None else None
    seen = None
    if user is not None and not use(Access).may_read(user, "assignment", request_now()):
        seen = [pattern for one in bounds_of(snapshot, user, request_now()) for pattern in one.roles]
    with open_unit(write=False) as unit:
        query = select(Assignment).where(Assignment.rev_until.is_(None)).order_by(Assignment.role_key, Assignment.id)
        rows = [
            one
            for one in unit.db.execute(query).scalars()
            if seen is None or one.role_key in seen or f"{one.role_key.partition(':')[0]}:*" in seen
        ]
        names = _holder_names(unit)
        choices = _choices(unit)
    return make_response(
        render_template(
            "console/assignments.html",
            rows=[(one, names.get((one.holder_kind, one.holder_id), ""), _limit(one)) for one in rows[:SHOWN]],
            hidden=max(len(rows) - SHOWN, 0),
            **choices,
        )
    )


@bp.post("/admin/assignments")
@permission("write", "assignment", fresh=True)
def assignment_add() -> Response:
    """Assign a role, within the bounds of one's rights to grant."""
    why, reference = reason_given()
    form = request.form
    with open_unit(reason=why, reference=reference) as unit:
        kind, _sep, name = form.get("holder", "").partition("|")
        values = {
            "holder_kind": kind or "user",
            "holder_id": _holder(unit, kind or "user", name or form.get("login", "")),
            "role": form.get("role", ""),
            **_bounds_of_form(),
        }
        assign(unit, valid(lambda: AssignmentInput.model_validate(values)))
    return redirect_to("/admin/assignments")


@bp.post("/admin/assignments/<uuid:assignment_id>/revoke")
@permission("write", "assignment", fresh=True)
def assignment_revoke(assignment_id: UUID) -> Response:
    """End an assignment."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        revoke(unit, assignment_id)
    return redirect_to("/admin/assignments")


@bp.get("/admin/grants")
@permission("read", "admin_grant")
def grants() -> Response:
    """Who may grant what."""
    with open_unit(write=False) as unit:
        query = select(AdminGrant).where(AdminGrant.rev_until.is_(None)).order_by(AdminGrant.holder_kind, AdminGrant.id)
        rows = list(unit.db.execute(query).scalars())
        logins = {str(user_id): login for user_id, login in unit.db.execute(select(User.id, User.login))}
        choices = _choices(unit)
    return make_response(
        render_template(
            "console/grants.html",
            rows=[(one, logins.get(one.holder_id, one.holder_id), _limit(one)) for one in rows],
            powers=POWERS,
            **choices,
        )
    )


@bp.post("/admin/grants")
@permission("write", "admin_grant", fresh=True)
def grant_add() -> Response:
    """Give somebody a right to grant roles."""
    why, reference = reason_given()
    form = request.form
    days = form.get("max_days", "").strip()
    with open_unit(reason=why, reference=reference) as unit:
        login, role = form.get("login", "").strip(), form.get("holder_role", "")
        values = {
            "holder_kind": "user" if login else "role",
            "holder": str(_holder(unit, "user", login)) if login else role,
            "powers": tuple(form.getlist("powers")),
            "roles": tuple(form.getlist("roles")),
            "max_days": days or None,
            **_bounds_of_form(),
        }
        add_admin_grant(unit, valid(lambda: AdminGrantInput.model_validate(values)))
    return redirect_to("/admin/grants")


@bp.post("/admin/grants/<uuid:grant_id>/revoke")
@permission("write", "admin_grant", fresh=True)
def grant_revoke(grant_id: UUID) -> Response:
    """Take a right to grant away; what was granted by it stays."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        revoke_admin_grant(unit, grant_id)
    return redirect_to("/admin/grants")


@bp.get("/admin/administrators")
@permission("read", "administrator")
def administrators() -> Response:
    """Who holds the administration roles, and what is proposed."""
    with open_unit(write=False) as unit:
        logins = {str(user_id): login for user_id, login in unit.db.execute(select(User.id, User.login))}
        # They never come by a group or a mapping.
        held = select(Assignment.role_key, Assignment.holder_id).where(
            Assignment.holder_kind == "user",
            Assignment.role_key.in_(CONSOLE_ROLES),
            Assignment.rev_until.is_(None),
        )
        holders: dict[str, list[str]] = {key: [] for key in CONSOLE_ROLES}
        for key, holder in unit.db.execute(held):
            holders[key].append(logins[str(holder)])
        proposals = list(
            unit.db.execute(
                select(AdminProposal).where(AdminProposal.state == "open").order_by(AdminProposal.proposed_at)
            ).scalars()
        )
        persons = [one.proposed_by for one in proposals if one.proposed_by is not None]
        names = queries.names(unit.db.connection(), persons)
    return make_response(
        render_template(
            "console/administrators.html",
            holders=[(CONSOLE_ROLES[key], sorted(found)) for key, found in holders.items()],
            proposals=[
                (one, logins[str(one.user_id)], names.get(one.proposed_by, "") if one.proposed_by else "")
                for one in proposals
            ],
            console_roles=CONSOLE_ROLES,
        )
    )


@bp.post("/admin/administrators")
@permission("write", "administrator", fresh=True)
def administrator_propose() -> Response:
    """Propose that somebody gets or loses an administration role."""
    why, reference = reason_given()
    form = request.form
    with open_unit(reason=why, reference=reference) as unit:
        values = {
            "user_id": _holder(unit, "user", form.get("login", "")),
            "role": form.get("role", ""),
            "action": form.get("action", "assign"),
        }
        propose(unit, valid(lambda: ProposalInput.model_validate(values)))
    return redirect_to("/admin/administrators")


@bp.post("/admin/administrators/<uuid:proposal_id>")
@permission("approve", "administrator", fresh=True)
def administrator_decide(proposal_id: UUID) -> Response:
    """Approve or refuse, as a second person."""
    approve = answer_given()
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        decide(unit, proposal_id, approve=approve)
    return redirect_to("/admin/administrators")


def _bounds_of_form() -> dict[str, Any]:
    form, zone = request.form, use(Settings).zone
    amount = form.get("limit", "").strip()
    currency = form.get("currency", "CNY").strip()
    return {
        "company": form.get("company") or None,
        "org_unit": form.get("org_unit") or None,
        "business_type": form.get("business_type", "").strip() or None,
        "limit": {"value": amount, "currency": currency} if amount else None,
        "valid_from": parse_day(form.get("valid_from", "")[:10], zone),
        "valid_until": parse_day(form.get("valid_until", "")[:10], zone, end=True),
    }


def _holder(unit: Unit, kind: str, name: str) -> UUID:
    """The id of who is named in a form: a user's login, a group's name, a position's or unit's code."""
    if kind == "user":
        user = find_user_by_login(unit, name.strip()[:256])
        if user is None:
            raise NotFound("There is no such user.")
        return user.id
    tables: dict[str, tuple[Any, Any]] = {
        "group": (Group.id, Group.name),
        "position": (Position.id, Position.code),
        "unit": (OrgUnit.id, OrgUnit.code),
    }
    if kind not in tables:
        raise Invalid("The form is not complete.", code="form")
    key, column = tables[kind]
    found = unit.db.execute(select(key).where(column == name[:256])).scalars().first()
    if found is None:
        raise NotFound("There is nobody to assign this to.")
    return UUID(str(found))


def _holder_names(unit: Unit) -> dict[tuple[str, UUID], str]:
    columns: dict[str, tuple[Any, Any]] = {
        "user": (User.id, User.login),
        "group": (Group.id, Group.name),
        "position": (Position.id, Position.code),
        "unit": (OrgUnit.id, OrgUnit.code),
    }
    return {
        (kind, row[0]): row[1] for kind, (key, name) in columns.items() for row in unit.db.execute(select(key, name))
    }


def _limit(row: Assignment | AdminGrant) -> str:
    if row.limit_value is None or row.limit_currency is None:
        return ""
    return str(Amount(row.limit_value, row.limit_currency))


def _choices(unit: Unit) -> dict[str, Any]:
    roles = list(unit.db.execute(select(Role).where(Role.built_in.is_(False)).order_by(Role.key)).scalars())
    return {
        "roles": roles,
        "places": sorted({one.key.partition(":")[0] for one in roles}),
        "groups": list(unit.db.execute(select(Group.name).order_by(Group.name)).scalars()),
        "positions": list(unit.db.execute(select(Position.code).order_by(Position.code)).scalars()),
        "units": list(unit.db.execute(select(OrgUnit).order_by(OrgUnit.code)).scalars()),
    }
