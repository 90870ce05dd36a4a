"""NameIDs (SAML Core §8.3): by what name a service provider knows a person, and whom it means by one."""

from __future__ import annotations

import secrets as random
from uuid import UUID

from sqlalchemy import Connection, select

from identity.apps.models import AppAccount
from identity.apps.registry import Sp
from identity.apps.service import app_account
from identity.login.request import SignIn
from identity.people.inputs import fold_login
from identity.people.models import PersonProfile, User
from identity.saml import names
from identity.saml.errors import Answerable

NOBODY = UUID(int=0)


def name_of(
    connection: Connection, sp: Sp, sign_in: SignIn, name_format: str, *, allow_create: bool, now: object
) -> str:
    """The name of the person that signed in; raises `Answerable` when there is none of this format."""
    if not allow_create and name_format == names.PERSISTENT and not _is_known(connection, sp.app.id, sign_in.user_id):
        raise Answerable("name_id_policy", "no persistent name yet, and none may be made", sign_in.reply)
    account = app_account(connection, sp.app.id, sign_in.user_id, now)
    if account.status != "active":
        raise Answerable("account_disabled", "the account in this application is disabled", sign_in.reply)
    if name_format == names.TRANSIENT:
        return f"_{random.token_hex(20)}"
    if name_format == names.EMAIL:
        if not sign_in.released.get("email"):
            raise Answerable("name_id_policy", "no mail address, or none that is released", sign_in.reply)
        return str(sign_in.released["email"])
    return sign_in.login if name_format == names.UNSPECIFIED else account.name_id


def user_of(connection: Connection, sp: Sp, name_format: str, value: str) -> UUID:
    """Whom the service provider means; `NOBODY` for a name that is not known, is not one person's, or was transient.

    The caller asks for a sign-in all the same, so that nobody learns here which names exist.
    """
    if name_format == names.PERSISTENT:
        query = select(AppAccount.user_id).where(AppAccount.application_id == sp.app.id, AppAccount.name_id == value)
    elif name_format == names.UNSPECIFIED:
        query = select(User.id).where(User.login_key == fold_login(value)[:256])
    elif name_format == names.EMAIL:
        query = (
            select(User.id)
            .join(PersonProfile, PersonProfile.person_id == User.person_id)
            .where(PersonProfile.mail == value)
        )
    else:
        return NOBODY
    found = connection.execute(query.limit(2)).scalars().all()
    return found[0] if len(found) == 1 else NOBODY


def _is_known(connection: Connection, app_id: UUID, user_id: UUID) -> bool:
    query = select(AppAccount.id).where(AppAccount.application_id == app_id, AppAccount.user_id == user_id)
    return connection.execute(query).first() is not None
