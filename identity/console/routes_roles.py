"""Administration of roles and role mappings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.console import BUILT_IN_PERMISSIONS, CONSOLE_ROLES
from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.apps.registry import Registry
from identity.console import present, queries, words
from identity.console.draft_forms import mapping_of_form, mapping_values
from identity.console.routes_people import paging, reason_given
from identity.core.errors import Invalid, NotFound, Stale
from identity.core.i18n import gettext as _
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import local_path, open_unit, permission, redirect_to, request_now, use
from identity.people.models import Group, OrgUnit, Position
from identity.roles import rules
from identity.roles.inputs import MappingInput, RuleSetInput
from identity.roles.mapping import BUSINESS
from identity.roles.models import Role
from identity.roles.preview import RoleChange, compare_mappings, world_with
from identity.roles.service_drafts import create_draft
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from identity.roles.service_second_person import is_required

bp = Blueprint("roles", __name__)

PREVIEW_SHOWN = 500


@bp.get("/admin/roles")
@permission("read", "role")
def roles() -> Response:
    """The role catalogue, by application."""
    snapshot = use(Access).snapshot()
    with open_unit(write=False) as unit:
        rows = list(unit.db.execute(select(Role).order_by(Role.key)).scalars())
    holders = Counter(
        role for one in snapshot.users.values() for role in {grant.grant.role for grant in one.derivations}
    )
    permissions = Counter(one.role for one in snapshot.content.permissions)
    permissions.update(one.role for one in BUILT_IN_PERMISSIONS)
    places: dict[str, list[Role]] = {}
    for row in rows:
        places.setdefault(row.key.partition(":")[0], []).append(row)
    return make_response(
        render_template(
            "console/roles.html",
            places=sorted(places.items(), key=lambda one: (one[0] != BUSINESS, one[0])),
            by_code=use(Registry).current().by_code,
            holders=holders,
            permissions=permissions,
            console_roles=CONSOLE_ROLES,
        )
    )


@bp.get("/admin/roles/<path:key>")
@permission("read", "role")
def role(key: str) -> Response:
    """One role: what it permits, whence it comes, who holds it."""
    snapshot = use(Access).snapshot()
    after = request.args.get("after", "")[:256]
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        row = unit.db.execute(select(Role).where(Role.key == key)).scalar_one_or_none()
        if row is None:
            raise NotFound("There is no such role.")
        titles = queries.role_titles(connection)
        people = _holders(snapshot, key)
        page = [one for one in people if one[0] > after][: queries.PAGE + 1]
        names = queries.names(connection, [snapshot.users[one[1]].person_id for one in page])
    content = snapshot.content
    shown = [
        (snapshot.users[user_id], names.get(snapshot.users[user_id].person_id, ""), terms)
        for _login, user_id, terms in page[: queries.PAGE]
    ]
    return make_response(
        render_template(
            "console/role.html",
            role=row,
            title=words.role_title(key, titles),
            titles=titles,
            permissions=[one for one in content.permissions if one.role == key],
            built_in=[one for one in BUILT_IN_PERMISSIONS if one.role == key],
            juniors=[one.junior for one in content.inheritance if one.senior == key],
            seniors=[one.senior for one in content.inheritance if one.junior == key],
            sources=[(rules.row_id(one), one) for one in content.mappings if one.role == key],
            leads=[(rules.row_id(one), one) for one in content.mappings if one.source == key],
            duties=[one for one in content.duties if key in one.definition.get("roles", ())],
            total=len(people),
            people=shown,
            limit_text=present.limit_text,
            paging=paging(page[queries.PAGE - 1][0] if len(page) > queries.PAGE else None),
        )
    )


def _holders(snapshot: Snapshot, key: str) -> list[tuple[str, UUID, list[str]]]:
    """(login, user id, the terms of each grant) of everybody who holds the role by an own derivation."""
    found = []
    for one in snapshot.users.values():
        terms = [present.grant_text(each.grant) for each in one.derivations if each.grant.role == key]
        if terms:
            found.append((one.login, one.id, sorted(set(filter(None, terms)))))
    return sorted(found, key=lambda each: each[0])


@bp.get("/admin/mappings")
@permission("read", "mapping")
def mappings() -> Response:
    """The mapping rows in force, by target."""
    snapshot = use(Access).snapshot()
    wanted, text = request.args.get("application", ""), request.args.get("q", "").strip().casefold()[:100]
    with open_unit(write=False) as unit:
        titles = queries.role_titles(unit.db.connection())
    rows = [
        (rules.row_id(row), row)
        for row in sorted(snapshot.content.mappings, key=lambda one: (one.role, one.source_kind, one.source))
        if (not wanted or row.role.startswith(f"{wanted}:"))
        and text in f"{row.role} {titles.get(row.role, '')} {row.source} {titles.get(row.source, '')}".casefold()
    ]
    places = sorted({row.role.partition(":")[0] for row in snapshot.content.mappings})
    return make_response(
        render_template(
            "console/mappings.html",
            rows=rows,
            total=len(snapshot.content.mappings),
            titles=titles,
            places=places,
            by_code=use(Registry).current().by_code,
            args=request.args,
            version=snapshot.policy_version,
            published=request.args.get("published", ""),
            limit_text=present.limit_text,
        )
    )


@bp.get("/admin/mappings/new")
@permission("write", "mapping")
def mapping_new() -> Response:
    """The form of a new row; the query may fill it."""
    return _form_page(dict(request.args.items()), None)


@bp.get("/admin/mappings/<row_id>/edit")
@permission("write", "mapping")
def mapping_edit(row_id: str) -> Response:
    """The form of an existing row."""
    row = next((one for one in use(Access).snapshot().content.mappings if rules.row_id(one) == row_id), None)
    if row is None:
        raise NotFound("There is no such mapping any more.")
    values = {**mapping_values(row, use(Settings).zone), "replace": row_id}
    return _form_page(values, None)


def _form_page(values: dict[str, str], error: str | None, status: int = 200) -> Response:
    with open_unit(write=False) as unit:
        choices = mapping_choices(unit)
    return make_response(render_template("console/mapping_form.html", values=values, error=error, **choices), status)


@bp.post("/admin/mappings/preview")
@permission("write", "mapping")
def mapping_preview() -> Response:
    """Who gains and who loses, before anything changes."""
    values = {name: value for name, value in request.form.items() if name not in {"csrf_token", "based_on"}}
    snapshot = use(Access).snapshot()
    try:
        with open_unit(write=False) as unit:
            based_on, content, before, after = _changed(unit)
            problems = rules.problems(content, set(unit.db.execute(select(Role.key)).scalars()))
            if problems:
                raise Invalid(_("The rules are not valid: %(problems)s") % {"problems": "; ".join(problems[:5])})
            world = world_with(snapshot.world, rules.mapping_rules(content))
            facts = [one.identity.facts for one in snapshot.users.values()]
            found = compare_mappings(snapshot.world, world, facts, request_now())
            names = queries.names(unit.db.connection(), [snapshot.users[one.user_id].person_id for one in found])
            titles = queries.role_titles(unit.db.connection())
            second = is_required(unit.db.connection(), demo=use(Settings).tessera_demo)
    except Invalid as error:
        if request.form.get("remove"):
            raise
        return _form_page(values, _(error.public), 400)
    shown = [_shown(one, snapshot, names) for one in found[:PREVIEW_SHOWN]]
    return make_response(
        render_template(
            "console/mapping_preview.html",
            changes=shown,
            hidden=max(len(found) - PREVIEW_SHOWN, 0),
            counts=Counter(one.kind for one in found),
            form=values,
            back=f"/admin/mappings/new?{urlencode(values)}",
            based_on=based_on,
            before=before,
            after=after,
            titles=titles,
            limit_text=present.limit_text,
            second_person=second,
        )
    )


def _shown(one: RoleChange, snapshot: Snapshot, names: Mapping[UUID, str]) -> tuple[object, ...]:
    user = snapshot.users[one.user_id]
    before = [present.grant_text(grant) for grant in one.before]
    after = [present.grant_text(grant) for grant in one.after]
    return user, names.get(user.person_id, ""), one, before, after


@bp.post("/admin/mappings")
@permission("write", "mapping", fresh=True)
def mapping_save() -> Response:
    """Publish the rules with this change, or make a draft of it where a second person publishes; refused when somebody
    else was first."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        unit.require("write", "mapping", request.form.get("role", "")[:200] or "mapping")
        based_on, content, _before, _after = _changed(unit)
        if not is_required(unit.db.connection(), demo=use(Settings).tessera_demo):
            version = change_rules(unit, content, based_on=based_on, note=why)
            return redirect_to(f"/admin/mappings?published={version or based_on}")
        if based_on != version_in_force(unit):
            raise Stale("The rules have changed since this page was loaded.", code="stale_policy")
        draft = create_draft(unit, why, content=content)
    return redirect_to(f"/admin/policy/drafts/{draft.id}")


def _changed(unit: Unit) -> tuple[int, RuleSetInput, MappingInput | None, MappingInput | None]:
    """The version that the form was based on, its rules with the form's change, and the row before and after."""
    try:
        based_on = int(request.form.get("based_on", "")[:9] or version_in_force(unit) or 0)
    except ValueError:
        raise Invalid("The form is not complete.", code="form") from None
    content = load_rules(unit, based_on)
    removed, replaced = request.form.get("remove"), request.form.get("replace")
    before = None
    if removed or replaced:
        before = next((one for one in content.mappings if rules.row_id(one) == (removed or replaced)), None)
        if before is None:
            raise NotFound("There is no such mapping any more.")
    after = None if removed else mapping_of_form(request.form, use(Settings).zone)
    rows = tuple(one for one in content.mappings if one is not before) + ((after,) if after else ())
    return based_on, content.model_copy(update={"mappings": rows}), before, after


def mapping_choices(unit: Unit) -> dict[str, object]:
    """What the form of a mapping offers."""
    found = list(unit.db.execute(select(Role).where(Role.built_in.is_(False)).order_by(Role.key)).scalars())
    places: dict[str, list[Role]] = {}
    for one in found:
        places.setdefault(one.key.partition(":")[0], []).append(one)
    return {
        "places": places,
        "by_code": use(Registry).current().by_code,
        "business_roles": [one for one in found if one.application_id is None],
        "groups": list(unit.db.execute(select(Group).order_by(Group.name)).scalars()),
        "positions": list(unit.db.execute(select(Position).order_by(Position.code)).scalars()),
        "units": list(unit.db.execute(select(OrgUnit).order_by(OrgUnit.code)).scalars()),
        "version": version_in_force(unit),
        "cancel": local_path(request.args.get("back"), "/admin/mappings"),
    }
