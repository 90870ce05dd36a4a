"""The login pages. Each step does its one thing and returns to the dispatcher (`resume` of the door)."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import App, Registry
from identity.core.errors import Invalid, NotFound, Refused
from identity.core.i18n import COOKIE, LANGUAGES, gettext_noop
from identity.core.i18n import gettext as _
from identity.core.settings import Settings
from identity.core.web import (
    delete_cookie,
    local_path,
    open_unit,
    page_policy,
    public,
    redirect_to,
    request_origin,
    set_cookie,
    use,
)
from identity.keys.keyring import Keyring
from identity.login import authenticate, flow, mfa, outage, service
from identity.login.authenticate import DirectoryVerifier
from identity.login.doors import (
    current_session,
    enter,
    forget_transaction,
    load_transaction,
    resume,
    surface_of,
)
from identity.login.gate import check_place
from identity.login.logout import LogoutNotifiers, end_session, end_sessions_of_user
from identity.login.models import LoginTransaction
from identity.login.request import CACHED, LoginRequest, Ready, SessionView
from identity.login.session import is_fresh
from identity.people.inputs import LOGIN_MAX
from identity.people.models import User

bp = Blueprint("login", __name__, template_folder="templates")

# Reasons that a directory gives only for the right password.
NAMED = {
    "must_change_elsewhere": gettext_noop("The password must be changed in the directory first."),
    "expired": gettext_noop("Your account in the directory has ended."),
    "denied": gettext_noop("The directory does not let you sign in now or from here."),
}

PUBLIC = "a step of a login; bound to the browser by the transaction's cookie"


@bp.get("/login")
@public(PUBLIC)
def login_page() -> Response:
    """Ask for name and password."""
    tx = request.args.get("tx", "")
    if not tx:
        return redirect_to("/")
    return step_page("login/sign_in.html", tx, login=None, error=None)


@bp.post("/login")
@public(PUBLIC)
def login_submit() -> Response:
    """Try name and password; every failure looks and takes the same."""
    started = time.monotonic()
    tx, login, password = (request.form.get(name, "") for name in ("tx", "login", "password"))
    if len(password) > authenticate.PASSWORD_MAX or len(login) > LOGIN_MAX:
        raise Invalid("The name or the password is too long.", code="too_long")
    with authenticate.attempt():
        secret, transaction, reason = try_password(tx, login, password)
        if secret is None:
            wait_until(started)
    if secret is None:
        if reason == "must_change":
            return step_page("login/change_password.html", tx, login=login, error=None)
        error = _(NAMED.get(reason, "The name or the password is not right."))
        return step_page("login/sign_in.html", tx, login=login, error=error)
    return signed_in(transaction, secret)


def signed_in(transaction: LoginTransaction, secret: str) -> Response:
    """Go on with the session of this secret."""
    response = redirect_to(f"/{transaction.door}/resume?tx={transaction.id}")
    set_cookie(response, _cookie(transaction.door), secret)
    return response


def try_password(tx: str, login: str, password: str) -> tuple[str | None, LoginTransaction, str]:
    """The secret of the session that this name and password begin or renew, or None and the reason that may be told;
    every failure costs a hash."""
    with open_unit(write=False) as unit:
        transaction = load_transaction(unit, tx)
        before = current_session(unit, surface_of(transaction.door))
        candidate = authenticate.find_candidate(unit.db.connection(), login, request_origin().ip, unit.now)
        kept = outage.accepted(unit.db.connection(), candidate)
    weaker = surface_of(transaction.door) != "admin"
    outcome = outage.verify(candidate, kept, password, use_verifier(), unit.now, weaker=weaker)
    told = reason = outcome.reason
    if reason == "must_change" and (candidate.account is None or not use_verifier().changes(candidate.account)):
        told = "must_change_elsewhere"
    renewed = None
    if reason == "ok" and candidate.local_hash is not None:
        renewed = authenticate.renewed_hash(candidate.local_hash, password)
    secret = None
    with open_unit() as unit:
        outage.keep(unit, candidate, outcome)
        if reason in {"ok", CACHED}:
            surface = surface_of(transaction.door)
            args = (use(Access), use(Settings), candidate, surface, before, use(LogoutNotifiers))
            amr = ("pwd", CACHED) if reason == CACHED else ("pwd",)
            secret = service.sign_in(unit, *args, amr)
        else:
            service.refuse(unit, candidate, reason)
        if secret is not None and renewed is not None and candidate.user_id is not None:
            authenticate.store_hash(unit, candidate.user_id, renewed)
    return secret, transaction, told


def wait_until(started: float) -> None:
    """A failed sign-in never answers sooner than the least time, so that its time tells nothing."""
    time.sleep(max(0.0, use(Settings).failed_login_min_ms / 1_000 - (time.monotonic() - started)))


def use_verifier() -> DirectoryVerifier:
    return use(DirectoryVerifier)  # type: ignore[type-abstract]


@bp.get("/login/totp")
@public(PUBLIC)
def totp_page() -> Response:
    """Ask for the second factor, or begin its enrolment when it is owed and there is none."""
    tx = request.args.get("tx", "")
    with open_unit(write=False) as unit:
        transaction, session = _step(tx, unit)
        enrolled = mfa.has_factor(unit.db.connection(), session.user_id)
    return (
        step_page("login/totp.html", tx, error=None) if enrolled else redirect_to(f"/login/enrol?tx={transaction.id}")
    )


@bp.post("/login/totp")
@public(PUBLIC)
def totp_submit() -> Response:
    """Try the code; the session goes on under a new secret."""
    started = time.monotonic()
    tx, code = request.form.get("tx", ""), request.form.get("code", "")[:64]
    with authenticate.attempt():
        with open_unit() as unit:
            transaction, session = _step(tx, unit)
            secret = service.try_code(unit, use(Keyring), use(Settings), session, code)
        if secret is None:
            wait_until(started)
    if secret is None:
        return step_page("login/totp.html", tx, error=_("This code is not right."))
    response = redirect_to(f"/{transaction.door}/resume?tx={transaction.id}")
    set_cookie(response, _cookie(transaction.door), secret)
    return response


@bp.get("/login/enrol")
@public(PUBLIC)
def enrol_page() -> Response:
    """Show the seed of a new second factor."""
    tx = request.args.get("tx", "")
    with open_unit() as unit:
        transaction, session = _step(tx, unit)
        _check_not_cached(session)
        if not is_fresh(session, unit.now):  # whoever finds an open browser cannot add a factor of his own
            return redirect_to(f"/login?tx={transaction.id}")
        seed = mfa.begin_enrolment(unit, use(Keyring), session.user_id)
        user = unit.db.get(User, session.user_id)
    return enrol_page_of(tx, seed, user.login if user else "", None)


@bp.post("/login/enrol")
@public(PUBLIC)
def enrol_submit() -> Response:
    """Confirm it with a first code, show the recovery codes once, go on with the full session."""
    tx = request.form.get("tx", "")
    with open_unit() as unit:
        transaction, session = _step(tx, unit)
        _check_not_cached(session)
        if not is_fresh(session, unit.now):
            return redirect_to(f"/login?tx={transaction.id}")
        user = unit.db.get(User, session.user_id)
        if user is None:
            raise NotFound("There is no such user.")
        seed = mfa.pending_seed(unit.db.connection(), use(Keyring), session.user_id) or ""
        unit.actor = service.user_actor(unit, session.user_id)
        codes = mfa.confirm_enrolment(unit, use(Keyring), session.user_id, request.form.get("code", "")[:64])
        secret = None
        if codes is not None:
            secret = service.step_up(unit, use(Settings), session, user.person_id, "otp")
    if codes is None or secret is None:
        return enrol_page_of(tx, seed, user.login, _("This code is not right."))
    onward = f"/{transaction.door}/resume?tx={transaction.id}"
    response = make_response(render_template("login/recovery.html", codes=codes, onward=onward))
    set_cookie(response, _cookie(transaction.door), secret)
    return response


@bp.get("/login/consent")
@public(PUBLIC)
def consent_page() -> Response:
    """Ask whether the application may have what it asks for."""
    tx = request.args.get("tx", "")
    with open_unit(write=False) as unit:
        transaction, _session = _step(tx, unit, whole=True)
        wanted = LoginRequest.from_json(transaction.request)
    return step_page("login/consent.html", tx, scopes=wanted.scopes)


@bp.post("/login/consent")
@public(PUBLIC)
def consent_submit() -> Response:
    """Keep the answer and return to the door."""
    with open_unit() as unit:
        transaction, session = _step(request.form.get("tx", ""), unit, whole=True)
        unit.actor = service.user_actor(unit, session.user_id, session.id)
        service.consent(unit, transaction, session, agreed=request.form.get("answer") == "agree")
    return redirect_to(f"/{transaction.door}/resume?tx={transaction.id}")


@bp.get("/portal/enter")
@public("begins a sign-in to the portal")
def portal_enter() -> Response:
    """Sign in for our own pages."""
    answer = enter(_own_request("portal"))
    return _arrive(answer) if isinstance(answer, Ready) else answer


@bp.get("/console/enter")
@public("begins a sign-in to the console")
def console_enter() -> Response:
    """Sign in for the console, which has sessions of its own."""
    check_place()
    answer = enter(_own_request("console"))
    return _arrive(answer) if isinstance(answer, Ready) else answer


@bp.get("/portal/resume")
@public(PUBLIC)
def portal_resume() -> Response:
    return _own_resume("portal")


@bp.get("/console/resume")
@public(PUBLIC)
def console_resume() -> Response:
    check_place()
    return _own_resume("console")


@bp.get("/logout")
@public("shows the question whether to sign out")
def logout_page() -> Response:
    """Ask, since a GET never ends a session."""
    return make_response(render_template("login/logout.html"))


@bp.post("/logout")
@public("ends the browser's own session; needs the form token")
def logout_submit() -> Response:
    """End the browser's sessions and tell the applications, by way of those that only the browser can tell."""
    onward = None
    with open_unit() as unit:
        for surface in ("admin", "sso"):
            session = current_session(unit, surface)
            if session is not None:
                unit.actor = service.user_actor(unit, session.user_id, session.id)
                if request.form.get("everywhere"):
                    end_sessions_of_user(unit, session.user_id, "logout_everywhere", use(LogoutNotifiers))
                    use(LogoutNotifiers).end_offline(unit, session.user_id)
                else:
                    end_session(unit, session.id, "logout", use(LogoutNotifiers))
                onward = use(LogoutNotifiers).onward(unit, session.id) or onward
    response = redirect_to(onward) if onward else make_response(render_template("login/signed_out.html", missed=()))
    for name in ("sid", "admin"):
        delete_cookie(response, name)
    return response


@bp.post("/language")
@public("a preference without consequence")
def language() -> Response:
    """Switch the language and go back to the page."""
    response = redirect_to(local_path(request.form.get("next")))
    chosen = request.form.get("lang", "")
    if chosen in LANGUAGES:
        response.set_cookie(
            COOKIE, chosen, max_age=31_536_000, secure=use(Settings).secure, httponly=True, samesite="Lax"
        )
    return response


def _own_request(door: str) -> LoginRequest:
    reply = {"next": local_path(request.args.get("next"), "/admin" if door == "console" else "/")}
    prompts = frozenset({"login"}) if request.args.get("again") else frozenset()
    return LoginRequest(app_id=None, door=door, prompts=prompts, reply=reply)


def _own_resume(door: str) -> Response:
    answer = resume(request.args.get("tx", ""), door)
    if isinstance(answer, flow.Refuse):
        raise Refused("You cannot sign in here.", answer.reason, code=answer.reason)
    return _arrive(answer) if isinstance(answer, Ready) else answer


def _arrive(ready: Ready) -> Response:
    response = redirect_to(local_path(ready.request.reply.get("next"), "/"))
    forget_transaction(response, ready.transaction_id)
    return response


def _step(tx: str, unit: Any, *, whole: bool = False) -> tuple[Any, SessionView]:
    """The transaction and the session of a step behind the password; raises `Refused` without one."""
    transaction = load_transaction(unit, tx)
    session = current_session(unit, surface_of(transaction.door))
    if session is None or (whole and session.partial):
        raise Refused("Please sign in first.", code="no_session")
    return transaction, session


def step_page(template: str, tx: str, **values: Any) -> Response:
    with open_unit(write=False) as unit:
        transaction = load_transaction(unit, tx)
        wanted = LoginRequest.from_json(transaction.request)
    app: App | None = use(Registry).current().application_by_id(wanted.app_id) if wanted.app_id else None
    hint = wanted.login_hint or ""
    response = make_response(render_template(template, tx=tx, app=app, hint=hint, **values))
    page_policy(response, (wanted.return_to,))
    return response


def enrol_page_of(tx: str, seed: str, login: str, error: str | None) -> Response:
    """The page that shows a seed and asks for its first code."""
    picture = mfa.picture(seed, login, "Tessera") if seed else ""
    return make_response(render_template("login/enrol.html", tx=tx, seed=seed, picture=picture, error=error))


def _check_not_cached(session: SessionView) -> None:
    """Nobody adds a factor on the word of a password that only we remember."""
    if CACHED in session.amr:
        raise Refused("A second factor can be added when the directory answers again.", code="directory_away")


def _cookie(door: str) -> str:
    return "sid" if surface_of(door) == "sso" else "admin"
