"""The page on which an invited administrator chooses a password."""

from __future__ import annotations

import time

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.core.errors import Invalid
from identity.core.i18n import gettext as _
from identity.core.settings import Settings
from identity.core.web import open_unit, public, redirect_to, use
from identity.login.setup import choose_password

bp = Blueprint("setup", __name__, template_folder="templates")

PUBLIC = "changes nothing without the one-time token of an invited administrator"


@bp.get("/setup")
@public(PUBLIC)
def setup_page() -> Response:
    """Ask for login, token and password; the page is the same whether anybody is invited or not."""
    return _page("", None)


@bp.post("/setup")
@public(PUBLIC)
def setup_submit() -> Response:
    """Set the password and go on to the console's sign-in, where the second factor is added."""
    started = time.monotonic()
    login, token, password, again = (
        request.form.get(name, "")[:2_048] for name in ("login", "token", "password", "again")
    )
    if password != again:
        return _page(login, _("The two passwords are not the same."))
    try:
        with open_unit() as unit:
            chosen = choose_password(unit, login, token.strip(), password)
    except Invalid as error:
        return _page(login, error.public)
    if not chosen:
        time.sleep(max(0.0, use(Settings).failed_login_min_ms / 1_000 - (time.monotonic() - started)))
        return _page(login, _("The login or the token is not right, or the token has expired."))
    return redirect_to("/admin")


def _page(login: str, error: str | None) -> Response:
    return make_response(render_template("login/setup.html", login=login, error=error))
