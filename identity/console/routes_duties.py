"""Separated duties: the rules, who breaks them, what is held back, and the controls."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.access.duty_report import report
from identity.console import queries
from identity.console.inputs import parse_day, valid
from identity.console.routes_people import reason_given
from identity.core.errors import NotFound
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, permission, redirect_to, use
from identity.people.service import find_user_by_login
from identity.roles.inputs import MitigationInput
from identity.roles.models import HeldGain, Mitigation
from identity.roles.service_duties import end_mitigation, last_report, mitigate, release_gain

bp = Blueprint("duties", __name__)


@bp.get("/admin/duties")
@permission("read", "duty")
def duties() -> Response:
    """The rules in force, the last report, held gains and controls."""
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        found = last_report(connection)
        held = list(unit.db.execute(select(HeldGain).where(HeldGain.rev_until.is_(None))).scalars())
        controls = list(unit.db.execute(select(Mitigation).where(Mitigation.rev_until.is_(None))).scalars())
        persons = {one.person_id for one in held}
        persons |= {person for one in controls for person in (one.person_id, one.owner_person_id)}
        names = queries.names(connection, persons)
        now = unit.now
    return make_response(
        render_template(
            "console/duties.html",
            rules=sorted(use(Access).snapshot().content.duties, key=lambda one: one.id),
            report=found,
            held=held,
            controls=controls,
            names=names,
            now=now,
        )
    )


@bp.post("/admin/duties/report")
@permission("write", "duty")
def report_now() -> Response:
    """Look again now."""
    with open_unit(reason="asked for in the console") as unit:
        unit.require("write", "duty", "report")
        report(unit)
    return redirect_to("/admin/duties#report")


@bp.post("/admin/duties/held/<uuid:gain_id>/release")
@permission("write", "duty", fresh=True)
def gain_release(gain_id: UUID) -> Response:
    """Give what a sync brought after all."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        release_gain(unit, gain_id)
    return redirect_to("/admin/duties#held")


@bp.post("/admin/duties/controls")
@permission("write", "duty", fresh=True)
def control_add() -> Response:
    """Accept one person's conflict under a control, until a day."""
    why, reference = reason_given()
    form = request.form
    until = parse_day(form.get("valid_until", "")[:10], use(Settings).zone, end=True)
    with open_unit(reason=why, reference=reference) as unit:
        person, owner = (_person(unit, form.get(name, "")) for name in ("login", "owner"))
        values = {
            "person_id": person,
            "rule": form.get("rule", ""),
            "control": form.get("control", "").strip(),
            "owner_person_id": owner,
            "reason": why[:256],
            "valid_until": until,
        }
        mitigate(unit, valid(lambda: MitigationInput.model_validate(values)))
    return redirect_to("/admin/duties#controls")


@bp.post("/admin/duties/controls/<uuid:control_id>/end")
@permission("write", "duty", fresh=True)
def control_end(control_id: UUID) -> Response:
    """End a control; what it covered shows in the next report."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        end_mitigation(unit, control_id)
    return redirect_to("/admin/duties#controls")


def _person(unit: Unit, login: str) -> UUID:
    user = find_user_by_login(unit, login.strip()[:256])
    if user is None:
        raise NotFound("There is no such user.")
    return user.person_id
