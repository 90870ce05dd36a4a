"""What a person does about his own account, behind its page: a second factor, sessions, consents."""

from __future__ import annotations

from flask import Blueprint, g, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.core.errors import Invalid, NotFound
from identity.core.hot import parse_uuid
from identity.core.i18n import gettext as _
from identity.core.settings import Settings
from identity.core.web import open_unit, redirect_to, set_cookie, signed_in, use
from identity.keys.keyring import Keyring
from identity.login import mfa, service
from identity.login.logout import LogoutNotifiers, end_session, end_sessions_of_user
from identity.login.models import LoginSession
from identity.login.request import SessionView
from identity.login.routes import enrol_page_of

bp = Blueprint("account", __name__, template_folder="templates")


@bp.get("/account/factor")
@signed_in(fresh=True)
def factor_page() -> Response:
    """Enrol a second factor of one's own will."""
    with open_unit() as unit:
        seed = mfa.begin_enrolment(unit, use(Keyring), _session().user_id)
    return enrol_page_of("", seed, g.actor.name, None)


@bp.post("/account/factor")
@signed_in(fresh=True)
def factor_submit() -> Response:
    """Confirm it; the other sessions end, this one goes on with both factors."""
    session, code = _session(), request.form.get("code", "")[:64]
    with open_unit() as unit:
        seed = mfa.pending_seed(unit.db.connection(), use(Keyring), session.user_id) or ""
        codes = mfa.confirm_enrolment(unit, use(Keyring), session.user_id, code)
        secret = None
        if codes is not None:
            end_sessions_of_user(unit, session.user_id, "factor_changed", use(LogoutNotifiers), keep=session.id)
            secret = service.step_up(unit, use(Settings), session, g.actor.person, "otp")
    if codes is None or secret is None:
        return enrol_page_of("", seed, g.actor.name, _("This code is not right."))
    response = make_response(render_template("login/recovery.html", codes=codes, onward="/account"))
    set_cookie(response, "sid", secret)
    return response


@bp.post("/account/recovery")
@signed_in(fresh=True)
def recovery_submit() -> Response:
    """New recovery codes instead of the old ones, shown this once."""
    session = _session()
    with open_unit() as unit:
        if not mfa.has_factor(unit.db.connection(), session.user_id):
            raise Invalid("You have no second factor.", code="no_factor")
        codes = mfa.make_recovery_codes(unit, session.user_id)
    return make_response(render_template("login/recovery.html", codes=codes, onward="/account"))


@bp.post("/account/sessions/end")
@signed_in()
def end_own_session() -> Response:
    """End one of one's own sessions, or all but this one."""
    session = _session()
    wanted = request.form.get("session", "")
    with open_unit() as unit:
        if wanted == "others":
            end_sessions_of_user(unit, session.user_id, "ended_by_user", use(LogoutNotifiers), keep=session.id)
        else:
            found = parse_uuid(wanted)
            row = unit.db.get(LoginSession, found) if found is not None else None
            if row is None or row.user_id != session.user_id:
                raise NotFound("There is no such session.")
            end_session(unit, row.id, "ended_by_user", use(LogoutNotifiers))
    return redirect_to("/account")


@bp.post("/account/consents/withdraw")
@signed_in()
def withdraw_consent() -> Response:
    """No longer agree to what an application asks for; what it got ends at once."""
    app_id = parse_uuid(request.form.get("application", ""))
    with open_unit() as unit:
        if app_id is None or not service.withdraw_consent(unit, _session().user_id, app_id, use(LogoutNotifiers)):
            raise NotFound("You have not agreed to this.")
    return redirect_to("/account")


def _session() -> SessionView:
    session: SessionView = g.session
    return session
