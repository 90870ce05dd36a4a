"""Policy versions: what was in force when, what is in one, what two of them differ in, and who publishes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access import checks
from identity.access.decide import Access
from identity.audit import csv
from identity.audit.kinds import Kind
from identity.console import queries, queries_policy
from identity.console.draft_forms import part_of
from identity.console.inputs import parse_moment, whole_number
from identity.console.routes_people import paging, reason_given
from identity.console.routes_reports import export_place
from identity.core.db import Database
from identity.core.errors import Invalid, NotFound
from identity.core.i18n import gettext as _
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.unit import Unit, Units
from identity.core.web import csv_response, current_actor, open_unit, permission, redirect_to, request_now, use
from identity.roles import draft_rows
from identity.roles.models import PolicyVersion
from identity.roles.models_drafts import PolicyCheck
from identity.roles.service_drafts import create_draft
from identity.roles.service_policy import load_rules, version_in_force
from identity.roles.service_second_person import decide_rule, find_rule, is_required, propose_rule
from identity.roles.summary import summary

bp = Blueprint("policy", __name__)

DAYS = (1, 7, 31, 92)
FILTERS = ("application", "kind", "change", "name", "q")
GROUPS_SHOWN = 100


@bp.get("/admin/policy")
@permission("read", "policy")
def versions() -> Response:
    """What was in force when, the drafts, and whether a second person publishes."""
    before = whole_number(request.args.get("after", ""))
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        rows = queries_policy.history(connection, before)
        current = version_in_force(unit)
        open_drafts = queries_policy.drafts(unit)
        bases = {one.version: unit.db.get_one(PolicyVersion, one.version).based_on for one in open_drafts}
        rule = find_rule(unit)
        page = {
            "current": current,
            "drafts": open_drafts,
            "stale": {one.id for one in open_drafts if bases[one.version] != current},
            "known": queries_policy.versions(connection),
            "required": is_required(connection, demo=use(Settings).tessera_demo),
            "proposal": rule if rule is not None and rule.wanted is not None else None,
            "mine": rule is not None and rule.proposed_by == unit.actor.person,
        }
    more = str(rows[queries.PAGE - 1].rev_from) if len(rows) > queries.PAGE else None
    return make_response(
        render_template(
            "console/policy.html", rows=rows[: queries.PAGE], args=request.args, paging=paging(more), **page
        )
    )


@bp.get("/admin/policy/versions/<int:version>")
@permission("read", "policy")
def version_page(version: int) -> Response:
    """The rules of one version, part by part, and what it changed."""
    with open_unit(write=False) as unit:
        row = unit.db.get(PolicyVersion, min(version, 2**31))
        if row is None:
            raise NotFound("There is no such policy version.")
        content = load_rules(unit, row.version)
        changes = queries_policy.lines(load_rules(unit, row.based_on), content)
        current = version_in_force(unit)
    return make_response(
        render_template(
            "console/policy_version.html",
            row=row,
            changes=changes[:500],
            changed=len(changes),
            current=current,
            **rules_shown(content),
        )
    )


def rules_shown(content: Any) -> dict[str, Any]:
    """A page of one part of these rules, as the address asks: rows as (id, line, row) behind the line `after`."""
    part = part_of(request.args.get("part", "permissions"))
    text, after = request.args.get("q", "").strip().casefold()[:100], request.args.get("after", "")[:4_000]
    lines = [(summary(row), key, row) for key, row in draft_rows.by_id(content, part).items()]
    rows = sorted((one for one in lines if text in one[0].casefold()), key=lambda one: one[:2])
    page = [one for one in rows if f"{one[0]}\n{one[1]}" > after][: queries.PAGE + 1]
    more = f"{page[queries.PAGE - 1][0]}\n{page[queries.PAGE - 1][1]}" if len(page) > queries.PAGE else None
    return {
        "part": part,
        "rules": page[: queries.PAGE],
        "total": len(rows),
        "counts": {name: len(getattr(content, name)) for name in draft_rows.PARTS},
        "args": request.args,
        "paging": paging(more),
    }


@bp.post("/admin/policy/versions/<int:version>/restore")
@permission("write", "policy")
def restore(version: int) -> Response:
    """A draft with the rules of an earlier version, to be looked at and published as any other."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        title = _("Back to policy version %(n)s") % {"n": version}
        draft = create_draft(unit, title, restores=min(version, 2**31))
    return redirect_to(f"/admin/policy/drafts/{draft.id}")


@bp.post("/admin/policy/second-person")
@permission("write", "policy", fresh=True)
def rule_propose() -> Response:
    """Propose that a second person publishes, or that none needs to."""
    why, reference = reason_given()
    wanted = request.form.get("required")
    if wanted not in {"yes", "no"}:
        raise Invalid("The form is not complete.", code="form")
    with open_unit(reason=why, reference=reference) as unit:
        propose_rule(unit, wanted == "yes", demo=use(Settings).tessera_demo)
    return redirect_to("/admin/policy#second-person")


@bp.post("/admin/policy/second-person/decide")
@permission("approve", "policy", fresh=True)
def rule_decide() -> Response:
    """Agree to that, or not, as a second person."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        decide_rule(unit, whole_number(request.form.get("row_version", "")) or 0, approve=answer_given())
    return redirect_to("/admin/policy#second-person")


def answer_given() -> bool:
    """Whether the form approves; raises `Invalid` for one that neither approves nor refuses."""
    answer = request.form.get("answer")
    if answer not in {"approve", "refuse"}:
        raise Invalid("The form is not complete.", code="form")
    return answer == "approve"


@bp.post("/admin/policy/checks")
@permission("read", "policy")
def check_ask() -> Response:
    """Compare two versions, or replay recorded decisions under one; of few people the page waits for it."""
    form = request.form
    kind = form.get("kind", "")
    days = whole_number(form.get("days", "")) if kind == "replay" else None
    with open_unit() as unit:
        before = whole_number(form.get("before", ""))
        current = version_in_force(unit) or 0
        check = checks.ask(
            unit, kind, current if before is None else before, whole_number(form.get("to", "")) or 0, days
        )
    snapshot = use(Access).snapshot()
    if kind == "compare" and len(snapshot.users) <= checks.USERS_AT_ONCE:
        checks.carry_out(use(Units), use(Database), snapshot, check.id, current_actor(), request_now())
    return redirect_to(f"/admin/policy/checks/{check.id}")


@bp.get("/admin/policy/checks/<uuid:check_id>")
@permission("read", "policy")
def check_page(check_id: UUID) -> Response:
    """What a check found, a page at a time."""
    wanted = {name: request.args.get(name, "")[:1_000] for name in FILTERS}
    after = whole_number(request.args.get("after", "")) or 0
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        check = checks.get_check(connection, check_id)
        rows = checks.rows_of(connection, check_id, wanted, after, queries.PAGE + 1)
        groups = checks.groups_of(connection, check_id, GROUPS_SHOWN) if check.kind == "compare" else []
        titles = queries.role_titles(connection)
        draft = queries_policy.draft_of(unit, check.after_version)
    return make_response(
        render_template(
            "console/policy_check.html",
            check=check,
            reached=parse_moment(check.counts.get("reached") or ""),
            rows=rows[: queries.PAGE],
            groups=groups if not after and not any(wanted.values()) else [],
            titles=titles,
            draft=draft,
            args=request.args,
            paging=paging(str(rows[queries.PAGE - 1].n) if len(rows) > queries.PAGE else None),
        )
    )


@bp.get("/admin/policy/checks/<uuid:check_id>/file")
@permission("read", "policy", fresh=True)
def check_file(check_id: UUID) -> Response:
    """All kept rows as CSV; the export is recorded."""
    wanted = {name: request.args.get(name, "")[:1_000] for name in FILTERS}
    with export_place(), open_unit() as unit:
        check = checks.get_check(unit.db.connection(), check_id)
        content = "".join(_csv(unit, check, wanted))
        unit.record(
            Record(
                kind=Kind.CHECK_EXPORTED,
                result="success",
                resource_type="policy",
                resource_id=str(check.after_version),
                data={"check": str(check_id), **{name: value for name, value in wanted.items() if value}},
            )
        )
    return csv_response(content, f"{check.kind}-v{check.before_version}-v{check.after_version}")


def _csv(unit: Unit, check: PolicyCheck, wanted: dict[str, str]) -> Iterator[str]:
    header = (
        *(_("Person"), _("User name"), _("Application"), _("Kind"), _("Name"), _("Change"), _("Before"), _("After")),
        *(_("Time"), _("Record")),
    )
    rows = (
        (
            one.person,
            one.login,
            one.application,
            one.kind,
            one.name,
            one.change,
            one.before,
            one.after,
            one.at,
            one.record_id,
        )
        for one in checks.rows_of(unit.db.connection(), check.id, wanted)
    )
    return csv.lines(header, rows, use(Settings).zone)
