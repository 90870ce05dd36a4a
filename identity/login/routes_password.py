"""The page on which a person changes a password that the directory does not accept any more, and no other."""

from __future__ import annotations

import time

from flask import Blueprint, request
from werkzeug.wrappers import Response

from identity.core.errors import Invalid
from identity.core.i18n import gettext as _
from identity.core.i18n import gettext_noop
from identity.core.web import open_unit, public, request_origin
from identity.login import authenticate, outage, service
from identity.login.doors import load_transaction
from identity.login.routes import signed_in, step_page, try_password, use_verifier, wait_until
from identity.people.inputs import LOGIN_MAX

bp = Blueprint("password", __name__, template_folder="templates")

PUBLIC = "changes nothing without the old password; bound to the browser by the transaction's cookie"
REFUSED = gettext_noop(
    "The directory does not accept this password. Choose a longer one that you have not used before."
)
ELSEWHERE = gettext_noop("The password must be changed in the directory first.")


@bp.post("/login/change")
@public(PUBLIC)
def change_submit() -> Response:
    """Change the password in the directory and sign in with the new one."""
    started = time.monotonic()
    tx, login, old, new, again = (request.form.get(name, "") for name in ("tx", "login", "old", "new", "again"))
    if max(len(old), len(new)) > authenticate.PASSWORD_MAX or len(login) > LOGIN_MAX:
        raise Invalid("The name or the password is too long.", code="too_long")
    if new != again or new == old or not new:
        fault = (
            _("The two passwords are not the same.") if new != again else _("Choose another password than the old one.")
        )
        return step_page("login/change_password.html", tx, login=login, error=fault)
    with authenticate.attempt():
        result = _change(tx, login, old, new)
        if result == "ok":
            secret, transaction, _reason = try_password(tx, login, new)
            if secret is not None:
                return signed_in(transaction, secret)
        wait_until(started)
    error = {"ok": "", "refused": REFUSED, "off": ELSEWHERE}.get(result)
    if error == "":
        return step_page("login/sign_in.html", tx, login=login, error=None)
    text = _(error) if error else _("The name or the password is not right.")
    return step_page("login/change_password.html", tx, login=login, error=text)


def _change(tx: str, login: str, old: str, new: str) -> str:
    """Change it if the directory says that it must be: as `authenticate.change`, `not_due`, or as `verify`."""
    with open_unit(write=False) as unit:
        load_transaction(unit, tx)
        candidate = authenticate.find_candidate(unit.db.connection(), login, request_origin().ip, unit.now)
        kept = outage.accepted(unit.db.connection(), candidate)
    # Nobody changes a password that need not be changed here: it is asked for before the second factor.
    outcome = outage.verify(candidate, kept, old, use_verifier(), unit.now, weaker=False)
    result = outcome.reason
    if result == "must_change":
        result = authenticate.change(candidate, old, new, use_verifier())
    elif result == "ok":
        result = "not_due"
    with open_unit() as unit:
        outage.keep(unit, candidate, outcome)
        if result == "ok":
            service.password_changed(unit, candidate)
        elif result not in {"refused", "off"}:
            service.refuse(unit, candidate, result)
    return result
