"""The employee's pages: the applications that he may use, and his own account. Also the words of all our pages."""

from __future__ import annotations

import time

from flask import Blueprint, g, make_response, render_template, request
from sqlalchemy import func, select
from werkzeug.wrappers import Response

from identity.access.decide import Access, AccessRequest
from identity.apps.registry import App, Registry
from identity.console import present, queries, words
from identity.console.stored import stored
from identity.core.errors import Invalid, NotFound, Refused, TesseraError
from identity.core.i18n import gettext as _
from identity.core.i18n import language
from identity.core.settings import Settings
from identity.core.web import open_unit, redirect_to, request_now, request_origin, set_cookie, signed_in, use
from identity.directory.models import DirectorySource
from identity.keys.keyring import Keyring
from identity.login import authenticate, mfa, service
from identity.login.authenticate import DirectoryVerifier
from identity.login.logout import LogoutNotifiers, end_sessions_of_user
from identity.login.models import Consent, LocalPassword, RecoveryCode
from identity.login.request import SessionView
from identity.people.models import PersonProfile, SourceAccount, User
from identity.roles.mapping import CONSOLE_APPLICATION

bp = Blueprint("portal", __name__)

bp.add_app_template_filter(words.label, "label")
bp.add_app_template_filter(words.reason, "reason")
bp.add_app_template_filter(words.claim, "claim")
bp.add_app_template_filter(words.area, "area")
bp.add_app_template_filter(words.kind, "kind_title")
bp.add_app_template_filter(stored, "stored")
bp.add_app_template_filter(present.browser, "browser")
bp.add_app_template_filter(present.role_address, "role_address")

TONES = 6


@bp.app_template_filter("own_name")
def own_name(app: App) -> str:
    """The application's name in the reader's language."""
    return app.name if language() == "zh_Hans" else app.name_en


@bp.app_template_global()
def may(action: str, resource_type: str) -> bool:
    """Whether the console should draw what leads to this; the page behind it checks again."""
    actor = g.get("actor")
    if actor is None or actor.user is None:
        return False
    wanted = AccessRequest(CONSOLE_APPLICATION, actor.user, resource_type, "page", action)
    return use(Access).peek(wanted, request_now())


@bp.app_template_global()
def console_menu() -> list[tuple[str, list[tuple[str, str]]]]:
    """The console's places that the viewer may open."""
    found = []
    for title, places in present.MENU:
        open_ones = [(path, _(name)) for path, name, action, kind in places if may(action, kind)]
        if open_ones:
            found.append((_(title) if title else "", open_ones))
    return found


@bp.get("/")
@signed_in()
def tiles() -> Response:
    """The tiles; the policy decides which."""
    session: SessionView = g.session
    access, now = use(Access), request_now()
    apps = sorted(
        (
            app
            for app in use(Registry).current().by_code.values()
            if app.in_portal and app.active and _may_enter(access, session, app)
        ),
        key=lambda one: one.code,
    )
    with open_unit(write=False) as unit:
        profile = unit.db.get(PersonProfile, g.actor.person)
    return make_response(
        render_template(
            "portal/tiles.html",
            apps=[(app, _address(app), tone % TONES) for tone, app in enumerate(apps)],
            name=profile.name if profile else g.actor.name,
            console=bool(access.snapshot().roles_in(session.user_id, CONSOLE_APPLICATION, now)),
        )
    )


@bp.get("/account")
@signed_in()
def account() -> Response:
    """One's own sessions, second factor and password."""
    return _account_page()


def _account_page(error: str | None = None, form: str = "", status: int = 200) -> Response:
    session: SessionView = g.session
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        rows = queries.live_sessions(connection, session.user_id, unit.now)
        apps = queries.participants(connection, [row.id for row in rows])
        factor = mfa.has_factor(connection, session.user_id)
        codes = connection.execute(
            select(func.count()).where(RecoveryCode.user_id == session.user_id, RecoveryCode.used_at.is_(None))
        ).scalar_one()
        local = unit.db.get(LocalPassword, session.user_id)
        source = connection.execute(
            select(DirectorySource.name)
            .join(SourceAccount, SourceAccount.source_id == DirectorySource.id)
            .where(SourceAccount.user_id == session.user_id)
        ).scalar()
        profile = unit.db.get(PersonProfile, g.actor.person)
        jobs = queries.employments(connection, session.user_id)
        agreed = unit.db.execute(select(Consent).where(Consent.user_id == session.user_id)).scalars().all()
    registry = use(Registry).current()
    consents = [(app, one.scopes) for one in agreed if (app := registry.application_by_id(one.application_id))]
    return make_response(
        render_template(
            "portal/account.html",
            sessions=rows,
            apps=apps,
            by_code=use(Registry).current().by_code,
            current=session.id,
            factor=factor,
            codes=codes,
            local=local,
            source=source,
            profile=profile,
            jobs=jobs,
            consents=consents,
            error=error,
            form=form,
            done=request.args.get("done", ""),
            password_min=authenticate.PASSWORD_MIN,
            console=bool(use(Access).snapshot().roles_in(session.user_id, CONSOLE_APPLICATION, request_now())),
        ),
        status,
    )


@bp.post("/account/password")
@signed_in()
def password() -> Response:
    """Change one's local password: the old one is asked for, the other sessions end."""
    session: SessionView = g.session
    old, new, again = (request.form.get(name, "")[:2_048] for name in ("old", "new", "again"))
    if new != again:
        return _account_page(_("The two new passwords are not the same."), "password", 400)
    with authenticate.attempt():
        candidate, problem = _wrong_password(session, old)
        if problem:
            return _account_page(problem, "password", 400)
        if candidate.local_hash is None:
            raise NotFound("Your password is kept in the company directory.")
        try:
            hashed = authenticate.hash_password(g.actor.name, new)
        except Invalid as error:
            return _account_page(said(error), "password", 400)
    with open_unit() as unit:
        user = unit.db.get_one(User, session.user_id)
        secret = service.change_password(unit, use(Settings), session, user, hashed, use(LogoutNotifiers))
    response = redirect_to("/account?done=password")
    set_cookie(response, "sid", secret)
    return response


def _wrong_password(session: SessionView, old: str) -> tuple[authenticate.Candidate, str | None]:
    """Why the old password does not count; failures are counted, delayed and recorded as those of the login page."""
    started = time.monotonic()
    with open_unit(write=False) as unit:
        candidate = authenticate.find_candidate(unit.db.connection(), g.actor.name, request_origin().ip, unit.now)
    reason = authenticate.verify(candidate, old, use(DirectoryVerifier))  # type: ignore[type-abstract]
    if reason == "ok" and candidate.user_id == session.user_id:
        return candidate, None
    with open_unit() as unit:
        service.refuse(unit, candidate, reason)
    time.sleep(max(0.0, use(Settings).failed_login_min_ms / 1_000 - (time.monotonic() - started)))
    return candidate, _("The old password is not right.")


@bp.post("/account/factor/remove")
@signed_in()
def factor_remove() -> Response:
    """Remove one's own second factor, with a code of it, where no role of the console asks for one."""
    session: SessionView = g.session
    code = request.form.get("code", "")[:64]
    with authenticate.attempt(), open_unit() as unit:
        right = service.check_code(unit, use(Keyring), session, code) is not None
        if right:
            mfa.remove_factor(unit, session.user_id)
            snapshot = use(Access).snapshot()
            if mfa.factor_owed(unit.db.connection(), snapshot, use(Settings), session.user_id, unit.now):
                raise Refused("Your roles need a second factor.", code="factor_owed")
            end_sessions_of_user(unit, session.user_id, "factor_changed", use(LogoutNotifiers), keep=session.id)
    if not right:
        return _account_page(_("This code is not right."), "factor", 400)
    return redirect_to("/account?done=factor")


def said(error: TesseraError) -> str:
    """The error in the reader's language."""
    return _(error.public)


def _may_enter(access: Access, session: SessionView, app: App) -> bool:
    wanted = AccessRequest(app.code, session.user_id, "application", app.code, "sso", acr=session.acr)
    return access.peek(wanted, request_now())


def _address(app: App) -> str:
    """Where a tile leads: the application's own address, or our IdP-initiated start for a SAML one that allows it."""
    sp = use(Registry).current().sp_of(app.code)
    if sp is not None and sp.options.get("idp_initiated"):
        return f"/saml/start/{app.code}"
    return app.home_url or "#"
