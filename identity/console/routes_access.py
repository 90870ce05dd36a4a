"""Administration of roles, mappings and applications."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template, request
from pydantic import ValidationError
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.apps.service import (
    get_application,
    rotate_client_secret,
    set_application_status,
    set_credential,
)
from identity.console import queries
from identity.core.errors import Invalid, NotFound
from identity.core.unit import Unit
from identity.core.web import open_unit, permission, redirect_to, request_now, use
from identity.people.models import Group, OrgUnit, Position
from identity.roles import rules
from identity.roles.inputs import MappingInput, RuleSetInput, ScopeTransform
from identity.roles.models import Role
from identity.roles.preview import compare_mappings, world_with
from identity.roles.service_policy import change_rules, load_rules, version_in_force

bp = Blueprint("access", __name__)


@bp.get("/admin/roles")
@permission("read", "role")
def roles() -> Response:
    """The role catalogue with the permissions in force."""
    content = use(Access).snapshot().content
    with open_unit(write=False) as unit:
        rows = list(unit.db.execute(select(Role).order_by(Role.key)).scalars())
    permissions: dict[str, list[str]] = {}
    for one in content.permissions:
        sign = "" if one.effect == "permit" else "✕ "
        permissions.setdefault(one.role, []).append(f"{sign}{one.type}:{one.action}")
    return make_response(render_template("console/roles.html", rows=rows, permissions=permissions))


@bp.get("/admin/mappings")
@permission("read", "mapping")
def mappings() -> Response:
    """The mapping rows in force."""
    snapshot = use(Access).snapshot()
    rows = sorted(
        ((rules.row_id(row), row) for row in snapshot.content.mappings),
        key=lambda one: (one[1].role, one[1].source),
    )
    return make_response(render_template("console/mappings.html", rows=rows, version=snapshot.policy_version))


@bp.get("/admin/mappings/new")
@permission("write", "mapping")
def mapping_new() -> Response:
    """The form of a new row."""
    with open_unit(write=False) as unit:
        return make_response(render_template("console/mapping_form.html", **_choices(unit)))


@bp.post("/admin/mappings/preview")
@permission("write", "mapping")
def mapping_preview() -> Response:
    """Who gains and who loses, before anything changes."""
    with open_unit(write=False) as unit:
        based_on, content, change = _changed(unit)
        problems = rules.problems(content, set(unit.db.execute(select(Role.key)).scalars()))
        if problems:
            raise Invalid("; ".join(problems[:5]), code="invalid_policy")
        snapshot = use(Access).snapshot()
        after = world_with(snapshot.world, rules.mapping_rules(content))
        facts = [one.identity.facts for one in snapshot.users.values()]
        changes = compare_mappings(snapshot.world, after, facts, request_now())
        persons = {snapshot.users[one.user_id].person_id for one in changes}
        names = queries.names(unit.db.connection(), persons)
    shown = [
        (snapshot.users[one.user_id].login, names.get(snapshot.users[one.user_id].person_id, ""), one)
        for one in changes
    ]
    return make_response(
        render_template(
            "console/mapping_preview.html",
            changes=shown[:500],
            gains=sum(one.gains for one in changes),
            losses=sum(not one.gains for one in changes),
            form=request.form,
            based_on=based_on,
            change=change,
        )
    )


@bp.post("/admin/mappings")
@permission("write", "mapping", fresh=True)
def mapping_save() -> Response:
    """Publish the rules with this change; refused when somebody else was first."""
    reason = request.form.get("reason", "").strip()
    if not reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    with open_unit(reason=reason[:500], reference=request.form.get("reference", "")[:100] or None) as unit:
        unit.require("write", "mapping", request.form.get("role", "")[:200] or "mapping")
        based_on, content, _ = _changed(unit)
        change_rules(unit, content, based_on=based_on, note=reason[:500])
    return redirect_to("/admin/mappings")


def _changed(unit: Unit) -> tuple[int, RuleSetInput, MappingInput]:
    """The version that the form was based on, its rules with the form's change, and the changed row."""
    try:
        based_on = int(request.form.get("based_on", "") or version_in_force(unit) or 0)
    except ValueError:
        raise Invalid("The form is not complete.", code="form") from None
    content = load_rules(unit, based_on)
    removed = request.form.get("remove")
    if removed:
        row = next((one for one in content.mappings if rules.row_id(one) == removed), None)
        if row is None:
            raise NotFound("There is no such mapping.")
        rest = tuple(one for one in content.mappings if one is not row)
        return based_on, content.model_copy(update={"mappings": rest}), row
    row = _row_of_form()
    return based_on, content.model_copy(update={"mappings": (*content.mappings, row)}), row


def _row_of_form() -> MappingInput:
    form = request.form
    kind, _, source = form.get("source", "").partition("|")
    amount = form.get("limit", "").strip()
    try:
        return MappingInput(
            source_kind=kind,  # type: ignore[arg-type]
            source=source,
            role=form.get("role", ""),
            exclude=bool(form.get("exclude")),
            scope=ScopeTransform(
                transform="narrow" if form.get("company") or form.get("org_unit") else "inherit",
                company=form.get("company") or None,
                org_unit=form.get("org_unit") or None,
            ),
            limit={"value": amount, "currency": form.get("currency", "CNY")} if amount else None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", code="form") from None


def _choices(unit: Unit) -> dict[str, object]:
    roles = list(unit.db.execute(select(Role).where(Role.built_in.is_(False)).order_by(Role.key)).scalars())
    return {
        "roles": roles,
        "business_roles": [one for one in roles if one.application_id is None],
        "groups": list(unit.db.execute(select(Group.name).order_by(Group.name)).scalars()),
        "positions": list(unit.db.execute(select(Position.code).order_by(Position.code)).scalars()),
        "units": list(unit.db.execute(select(OrgUnit).order_by(OrgUnit.code)).scalars()),
        "version": version_in_force(unit),
    }


@bp.get("/admin/applications")
@permission("read", "application")
def applications() -> Response:
    """All applications."""
    apps = sorted(use(Registry).current().by_code.values(), key=lambda one: one.code)
    return make_response(render_template("console/applications.html", rows=apps))


@bp.get("/admin/applications/<code>")
@permission("read", "application")
def application(code: str) -> Response:
    """One application with its faces; secrets are never shown."""
    return _application_page(code)


@bp.post("/admin/applications/<code>/status")
@permission("write", "application", fresh=True)
def application_status(code: str) -> Response:
    """Disable or enable an application, with a reason."""
    reason, status = request.form.get("reason", "").strip(), request.form.get("status", "")
    if not reason or status not in {"active", "disabled"}:
        raise Invalid("Please give a reason.", code="reason_missing")
    with open_unit(reason=reason[:500]) as unit:
        set_application_status(unit, code, status, int(request.form.get("row_version", "0") or 0))
    return redirect_to(f"/admin/applications/{code}")


@bp.post("/admin/applications/<code>/secret")
@permission("write", "application", fresh=True)
def application_secret(code: str) -> Response:
    """A new secret, shown this once."""
    reason = request.form.get("reason", "").strip()
    if not reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    client_id = request.form.get("client_id", "")
    with open_unit(reason=reason[:500]) as unit:
        app = get_application(unit, code)
        if client_id:
            secret = rotate_client_secret(unit, app, client_id)
        else:
            secret = set_credential(unit, app, "decision point")
    return _application_page(code, secret=secret)


def _application_page(code: str, secret: str | None = None) -> Response:
    apps = use(Registry).current()
    app = apps.application(code)
    if app is None:
        raise NotFound("There is no such application.")
    with open_unit(write=False) as unit:
        row = get_application(unit, code)
    return make_response(
        render_template(
            "console/application.html",
            app=app,
            row=row,
            secret=secret,
            clients=[one for one in apps.clients.values() if one.app.id == app.id],
            sps=[one for one in apps.sps.values() if one.app.id == app.id],
            services=[one for one in apps.cas_services if one.app.id == app.id],
            apis=apps.apis_of(app.id),
        )
    )
