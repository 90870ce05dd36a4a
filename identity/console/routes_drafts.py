"""Drafts of the rules: written in several steps, looked at, proposed and published."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access import checks
from identity.access.decide import Access
from identity.apps.models import Application
from identity.apps.registry import Registry
from identity.console import queries, queries_policy
from identity.console.draft_forms import change_of_form, mapping_values, undo_of_form
from identity.console.inputs import whole_number
from identity.console.routes_people import paging, reason_given
from identity.console.routes_policy import DAYS, answer_given, rules_shown
from identity.console.routes_roles import mapping_choices
from identity.core.errors import Invalid, NotFound
from identity.core.settings import Settings
from identity.core.web import current_actor, open_unit, permission, redirect_to, request_now, use
from identity.roles import draft_rows
from identity.roles.inputs import RoleInput
from identity.roles.models import Role
from identity.roles.service_drafts import (
    base_of,
    create_draft,
    decide_draft,
    discard_draft,
    edit_draft,
    get_draft,
    is_compared,
    propose_draft,
    publish_draft,
    rebase_draft,
    withdraw_draft,
)
from identity.roles.service_policy import load_rules, put_role, version_in_force
from identity.roles.service_second_person import is_required
from identity.roles.summary import summary

bp = Blueprint("drafts", __name__)

CHANGES_SHOWN = 200


@bp.post("/admin/policy/drafts")
@permission("write", "policy")
def draft_new() -> Response:
    """Begin a draft from the rules in force."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        draft = create_draft(unit, request.form.get("title", ""))
    return redirect_to(_address(draft.id))


@bp.get("/admin/policy/drafts/<uuid:draft_id>")
@permission("read", "policy")
def draft_page(draft_id: UUID) -> Response:
    """What the draft changes, all of it a page at a time; what it would do, and its next step."""
    first = whole_number(request.args.get("after", "")) or 0
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        draft = get_draft(unit, draft_id)
        base, current = base_of(unit, draft), version_in_force(unit)
        mine, before = load_rules(unit, draft.version), load_rules(unit, base)
        changes = queries_policy.lines(before, mine)
        conflicts = []
        if base != current:
            found = draft_rows.merge(before, mine, load_rules(unit, current))[1]
            conflicts = [(part, summary(row)) for part, row in found]
        persons = [one for one in (draft.proposed_by, draft.decided_by) if one]
        page = {
            "base": base,
            "current": current,
            "stale": base != current and draft.state in {"editing", "proposed"},
            "conflicts": conflicts,
            "compared": is_compared(unit, draft),
            "checks": checks.checks_of(connection, draft.version, current or 0),
            "required": is_required(connection, demo=use(Settings).tessera_demo),
            "names": queries.names(connection, persons),
        }
    person = current_actor().person
    return make_response(
        render_template(
            "console/draft.html",
            draft=draft,
            changes=changes[first : first + CHANGES_SHOWN],
            total=len(changes),
            first=first,
            paging=paging(str(first + CHANGES_SHOWN) if len(changes) > first + CHANGES_SHOWN else None),
            days=DAYS,
            may_decide=person not in {None, draft.proposed_by} and str(person) not in draft.writers,
            others=queries_policy.others_who_may_publish(
                use(Access).snapshot(), [draft.proposed_by or person, *draft.writers], request_now()
            ),
            **page,
        )
    )


@bp.get("/admin/policy/drafts/<uuid:draft_id>/rules")
@permission("read", "policy")
def draft_rules(draft_id: UUID) -> Response:
    """All rules of the draft, with the forms that change them."""
    with open_unit(write=False) as unit:
        draft = get_draft(unit, draft_id)
        content = load_rules(unit, draft.version)
        roles = list(unit.db.execute(select(Role).where(Role.built_in.is_(False)).order_by(Role.key)).scalars())
    apps = list(use(Registry).current().by_code.values())
    return make_response(
        render_template("console/draft_rules.html", draft=draft, roles=roles, apps=apps, **rules_shown(content))
    )


@bp.get("/admin/policy/drafts/<uuid:draft_id>/mapping")
@permission("write", "policy")
def draft_mapping(draft_id: UUID) -> Response:
    """The form of a mapping of the draft, a new one or the one named in `replace`."""
    with open_unit(write=False) as unit:
        draft = get_draft(unit, draft_id)
        choices = mapping_choices(unit)
        values = dict(request.args.items())
        known = draft_rows.by_id(load_rules(unit, draft.version), "mappings")
    if request.args.get("replace"):
        row = known.get(request.args["replace"])
        if row is None:
            raise NotFound("There is no such mapping any more.")
        values = {**mapping_values(row, use(Settings).zone), "replace": request.args["replace"]}
    choices["cancel"] = f"{_address(draft_id)}/rules?part=mappings"
    return make_response(
        render_template("console/mapping_form.html", values=values, error=None, draft=draft, **choices)
    )


@bp.post("/admin/policy/drafts/<uuid:draft_id>/edit")
@permission("write", "policy")
def draft_edit(draft_id: UUID) -> Response:
    """One change: a rule added, replaced or removed, or an earlier change taken back."""
    form = request.form
    with open_unit(reason=form.get("reason", "").strip()[:500] or None) as unit:
        draft = get_draft(unit, draft_id)
        mine = load_rules(unit, draft.version)
        if form.get("undo"):
            change = undo_of_form(form, load_rules(unit, base_of(unit, draft)), mine)
        else:
            change = change_of_form(form, mine, use(Settings).zone)
        edit_draft(unit, draft_id, _row_version(), change)
    return redirect_to(_address(draft_id) if form.get("undo") else f"{_address(draft_id)}/rules?part={change.part}")


@bp.post("/admin/policy/drafts/<uuid:draft_id>/role")
@permission("write", "role")
def draft_role(draft_id: UUID) -> Response:
    """A role for the catalogue, so that the draft can use it; it gives nothing before rules with it are published."""
    form = request.form
    why, reference = reason_given()
    code = form.get("application", "").strip()
    with open_unit(reason=why, reference=reference) as unit:
        get_draft(unit, draft_id)
        app = unit.db.execute(select(Application.id).where(Application.code == code)).scalar_one_or_none()
        if code and app is None:
            raise NotFound("There is no such application.")
        try:
            name = form.get("name", "").strip()
            wanted = RoleInput(application=code or None, name=name, title=form.get("title", "").strip() or name)
        except ValueError:
            raise Invalid("Please give the role a name.", code="form") from None
        put_role(unit, wanted, application_id=app)
    return redirect_to(f"{_address(draft_id)}/rules?part=permissions")


@bp.post("/admin/policy/drafts/<uuid:draft_id>/rebase")
@permission("write", "policy")
def draft_rebase(draft_id: UUID) -> Response:
    """Bring the draft up to date with the rules in force."""
    with open_unit() as unit:
        rebase_draft(unit, draft_id, _row_version())
    return redirect_to(_address(draft_id))


@bp.post("/admin/policy/drafts/<uuid:draft_id>/discard")
@permission("write", "policy")
def draft_discard(draft_id: UUID) -> Response:
    """Put the draft away."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        discard_draft(unit, draft_id, _row_version())
    return redirect_to("/admin/policy#drafts")


@bp.post("/admin/policy/drafts/<uuid:draft_id>/propose")
@permission("write", "policy", fresh=True)
def draft_propose(draft_id: UUID) -> Response:
    """Let it wait for a second person, exactly as it was shown."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        propose_draft(unit, draft_id, _row_version(), _seen())
    return redirect_to(_address(draft_id))


@bp.post("/admin/policy/drafts/<uuid:draft_id>/withdraw")
@permission("write", "policy")
def draft_withdraw(draft_id: UUID) -> Response:
    """Write on at a draft that waits."""
    with open_unit() as unit:
        withdraw_draft(unit, draft_id, _row_version())
    return redirect_to(_address(draft_id))


@bp.post("/admin/policy/drafts/<uuid:draft_id>/publish")
@permission("write", "policy", fresh=True)
def draft_publish(draft_id: UUID) -> Response:
    """Publish alone, where no second person is asked for."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        publish_draft(unit, draft_id, _row_version(), _seen(), demo=use(Settings).tessera_demo)
    return redirect_to(_address(draft_id))


@bp.post("/admin/policy/drafts/<uuid:draft_id>/decide")
@permission("approve", "policy", fresh=True)
def draft_decide(draft_id: UUID) -> Response:
    """Publish exactly what was shown, or send it back, as a second person."""
    why, reference = reason_given()
    approve = answer_given()
    with open_unit(reason=why, reference=reference) as unit:
        decide_draft(unit, draft_id, _row_version(), _seen(), approve=approve)
    return redirect_to(_address(draft_id))


def _address(draft_id: UUID) -> str:
    return f"/admin/policy/drafts/{draft_id}"


def _row_version() -> int:
    return whole_number(request.form.get("row_version", "")) or 0


def _seen() -> str:
    return request.form.get("digest", "")[:64]
