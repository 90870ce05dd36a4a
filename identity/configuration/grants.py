"""Rights to grant, from a document and back."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from identity.configuration.document import AdminGrantPart
from identity.core.errors import NotFound
from identity.core.unit import Unit
from identity.people.models import User
from identity.people.service import find_user_by_login
from identity.roles.models import AdminGrant
from identity.roles.service_admin_grants import add_admin_grant, input_of, row_values


def put_admin_grants(unit: Unit, parts: Iterable[AdminGrantPart]) -> None:
    """Each of these rights is there; raises `NotFound` for an unknown login."""
    for part in parts:
        add_admin_grant(unit, part.grant(_holder(unit, part)))


def absent_admin_grants(unit: Unit, parts: Iterable[AdminGrantPart]) -> list[AdminGrant]:
    """Rights that were granted by an earlier document (by this unit's actor) and are not among these."""
    named = [row_values(part.grant(_holder(unit, part))) for part in parts]
    query = select(AdminGrant).where(AdminGrant.rev_until.is_(None), AdminGrant.granted_by == unit.actor.id)
    rows = unit.db.execute(query.order_by(AdminGrant.grant_id)).scalars()
    return [row for row in rows if row_values(input_of(row)) not in named]


def _holder(unit: Unit, part: AdminGrantPart) -> str:
    if part.user is None:
        return str(part.role)
    user = find_user_by_login(unit, part.user)
    if user is None:
        raise NotFound(f"There is no user {part.user!r}.")
    return str(user.id)


def admin_grants(unit: Unit) -> list[AdminGrantPart]:
    """Every right that is in force, oldest first."""
    logins = {str(user_id): login for user_id, login in unit.db.execute(select(User.id, User.login))}
    query = select(AdminGrant).where(AdminGrant.rev_until.is_(None)).order_by(AdminGrant.grant_id)
    found = []
    for row in unit.db.execute(query).scalars():
        values = input_of(row).model_dump(exclude={"holder_kind", "holder"})
        holder = {"user": logins[row.holder_id]} if row.holder_kind == "user" else {"role": row.holder_id}
        found.append(AdminGrantPart.model_validate(holder | values))
    return found
