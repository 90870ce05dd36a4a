"""The first administrators: identities with an administration role, and one-time tokens to choose a password with.

A fresh installation has no account at all. Whoever has the server's command line invites one person for each of the
three administration roles; the password is known to that person alone.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict
from identity.core.record import Record
from identity.core.secrets import digest, equal, new_secret
from identity.core.unit import Unit
from identity.login import authenticate
from identity.login.models import SetupToken
from identity.people.inputs import fold_login
from identity.people.models import User
from identity.people.service import find_user_by_login
from identity.roles.service_assignments import bootstrap_administrator, holds_administration_role

TOKEN_S = 3_600
_NOBODY = b"\0" * 32


def invite_administrator(unit: Unit, login: str, name: str, role: str) -> str:
    """A new identity holds `role` and has no password; the one-time token with which its owner chooses one.

    Asked again for the same login and role before the token was used, it gives a new token, and the earlier one is
    worth nothing. Raises `Conflict` when somebody else holds the role or the login is taken.
    """
    created = bootstrap_administrator(unit, login, name, [role])
    user = created or find_user_by_login(unit, login)
    row = unit.db.get(SetupToken, user.id) if user is not None else None
    if user is None or (created is None and (row is None or not holds_administration_role(unit, user.id, role))):
        raise Conflict(f"There is a user {login} already.")
    token = new_secret("setup")
    if row is None:
        row = SetupToken(user_id=user.id)
        unit.db.add(row)
    row.token_hash, row.expires_at = digest(token), unit.now + timedelta(seconds=TOKEN_S)
    unit.record(
        Record(kind=Kind.SETUP_TOKEN_ISSUED, result="success", user=user.id, person=user.person_id, data={"role": role})
    )
    return token


def choose_password(unit: Unit, login: str, token: str, password: str) -> bool:
    """Whether this is the login's live token; then the password is this one from the commit on, the token used up.

    A wrong one is counted and recorded like a wrong password, and a name or address that must wait is refused. Raises
    `Invalid` for a password that may not be.
    """
    connection = unit.db.connection()
    key = f"setup:{fold_login(login)[:256]}"
    if authenticate.find_candidate(connection, key, unit.origin.ip, unit.now).blocked:
        return False
    row = unit.db.execute(
        select(SetupToken.token_hash, SetupToken.expires_at, User)
        .join(User, User.id == SetupToken.user_id)
        .where(User.login_key == fold_login(login))
    ).first()
    right = equal(row.token_hash if row else _NOBODY, digest(token))
    if row is None or not right or unit.now >= row.expires_at:
        authenticate.count_failure(connection, key, unit.origin.ip, unit.now)
        reason = "expired" if row is not None and right else "wrong_token"
        unit.record(Record(kind=Kind.SETUP_TOKEN_REFUSED, result="refused", reason=reason, data={"login": login[:128]}))
        return False
    unit.db.execute(delete(SetupToken).where(SetupToken.user_id == row.User.id))
    authenticate.set_password(unit, row.User, password)
    unit.record(
        Record(
            kind=Kind.PASSWORD_CHANGED,
            result="success",
            user=row.User.id,
            person=row.User.person_id,
            data={"by": "setup token"},
        )
    )
    return True
