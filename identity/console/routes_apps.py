"""Administration of applications."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.access.distribution import asked
from identity.apps.registry import App, Apps, Registry
from identity.apps.service import get_application, rotate_client_secret, set_application_status, set_credential
from identity.console.routes_people import reason_given
from identity.core.errors import Invalid, NotFound
from identity.core.settings import Settings
from identity.core.web import open_unit, permission, redirect_to, use

bp = Blueprint("apps", __name__)

DECISION_POINT = "decision point"


@bp.get("/admin/applications")
@permission("read", "application")
def applications() -> Response:
    """All applications."""
    apps = use(Registry).current()
    rows = [(app, protocols(apps, app)) for app in sorted(apps.by_code.values(), key=lambda one: one.code)]
    return make_response(render_template("console/applications.html", rows=rows))


def protocols(apps: Apps, app: App) -> list[str]:
    """What the application speaks."""
    spoken = {
        "OpenID Connect": any(one.app.id == app.id for one in apps.clients.values()),
        "SAML 2.0": any(one.app.id == app.id for one in apps.sps.values()),
        "CAS": any(one.app.id == app.id for one in apps.cas_services),
        "Forward auth": any(one.app.id == app.id for one in apps.forwards.values()),
        "API": bool(apps.apis_of(app.id)),
        "AuthZEN": bool(app.secret_hashes),
    }
    return [name for name, speaks in spoken.items() if speaks]


@bp.get("/admin/applications/<code>")
@permission("read", "application")
def application(code: str) -> Response:
    """One application with its faces and what its developers need; secrets are never shown."""
    return _application_page(code)


@bp.post("/admin/applications/<code>/status")
@permission("write", "application", fresh=True)
def application_status(code: str) -> Response:
    """Disable or enable an application, with a reason."""
    status, version = request.form.get("status", ""), request.form.get("row_version", "")
    if status not in {"active", "disabled"} or not version.isascii() or not version.isdigit():
        raise Invalid("The form is not complete.", code="form")
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        set_application_status(unit, code, status, int(version[:18]))
    return redirect_to(f"/admin/applications/{code}")


@bp.post("/admin/applications/<code>/secret")
@permission("write", "application", fresh=True)
def application_secret(code: str) -> Response:
    """A new secret, shown this once."""
    why, reference = reason_given()
    client_id = request.form.get("client_id", "")
    with open_unit(reason=why, reference=reference) as unit:
        app = get_application(unit, code)
        secret = rotate_client_secret(unit, app, client_id) if client_id else set_credential(unit, app, DECISION_POINT)
    return _application_page(code, secret=secret, owner=client_id or code)


def _application_page(code: str, secret: str | None = None, owner: str = "") -> Response:
    apps = use(Registry).current()
    app = apps.application(code)
    if app is None:
        raise NotFound("There is no such application.")
    with open_unit(write=False) as unit:
        row = get_application(unit, code)
    snapshot = use(Access).snapshot()
    return make_response(
        render_template(
            "console/application.html",
            app=app,
            row=row,
            secret=secret,
            owner=owner,
            issuer=use(Settings).public_url,
            protocols=protocols(apps, app),
            clients=[one for one in apps.clients.values() if one.app.id == app.id],
            sps=[one for one in apps.sps.values() if one.app.id == app.id],
            services=[one for one in apps.cas_services if one.app.id == app.id],
            hosts=[one for one in apps.forwards.values() if one.app.id == app.id],
            apis=apps.apis_of(app.id),
            asked=asked(snapshot, code) if "bundle" in app.rights else [],
            duties=[one for one in snapshot.content.duties if one.definition.get("application") == code],
        )
    )
