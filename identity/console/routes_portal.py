"""The employee's pages: the applications that he may use, and his own account."""

from __future__ import annotations

from flask import Blueprint, g, make_response, render_template
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access, AccessRequest
from identity.apps.registry import App, Registry
from identity.core.web import open_unit, request_now, signed_in, use
from identity.login.mfa import has_factor
from identity.login.models import LocalPassword, LoginSession
from identity.login.request import SessionView
from identity.people.models import PersonProfile
from identity.roles.mapping import CONSOLE_APPLICATION

bp = Blueprint("portal", __name__)


@bp.get("/")
@signed_in()
def tiles() -> Response:
    """The tiles; the policy decides which."""
    session: SessionView = g.session
    access, now = use(Access), request_now()
    apps = [
        app
        for app in use(Registry).current().by_code.values()
        if app.in_portal and app.active and _may_enter(access, session, app)
    ]
    snapshot = access.snapshot()
    with open_unit(write=False) as unit:
        profile = unit.db.get(PersonProfile, g.actor.person)
    return make_response(
        render_template(
            "portal/tiles.html",
            apps=[(app, _address(app)) for app in sorted(apps, key=lambda one: one.code)],
            name=profile.name if profile else g.actor.name,
            console=bool(snapshot.roles_in(session.user_id, CONSOLE_APPLICATION, now)),
        )
    )


@bp.get("/account")
@signed_in()
def account() -> Response:
    """One's own sessions and factors."""
    session: SessionView = g.session
    with open_unit(write=False) as unit:
        sessions = unit.db.execute(
            select(LoginSession)
            .where(
                LoginSession.user_id == session.user_id,
                LoginSession.ended_at.is_(None),
                LoginSession.expires_at > unit.now,
            )
            .order_by(LoginSession.last_seen_at.desc())
        ).scalars()
        rows = list(sessions)
        factor = has_factor(unit.db.connection(), session.user_id)
        local = unit.db.get(LocalPassword, session.user_id) is not None
    return make_response(
        render_template("portal/account.html", sessions=rows, current=session.id, factor=factor, local=local)
    )


def _may_enter(access: Access, session: SessionView, app: App) -> bool:
    wanted = AccessRequest(app.code, session.user_id, "application", app.code, "sso", acr=session.acr)
    return access.peek(wanted, request_now())


def _address(app: App) -> str:
    """Where a tile leads: the application's own address, or our IdP-initiated start for a SAML one that allows it."""
    sp = use(Registry).current().sp_of(app.code)
    if sp is not None and sp.options.get("idp_initiated"):
        return f"/saml/start/{app.code}"
    return app.home_url or "#"
