"""The one attribute release: canonical names, only what the application is registered for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.orm import aliased

from identity.access.snapshot import Snapshot
from identity.apps.registry import App
from identity.people.models import Employment, OrgUnit, PersonProfile, Position
from identity.roles.mapping import group_paths

CATALOGUE = (
    "sub",
    *(
        "preferred_username",
        "name",
        "given_name",
        "family_name",
        "email",
        "email_verified",
        "phone_number",
    ),
    *(
        "employee_number",
        "dept_code",
        "dept_name",
        "dept_path",
        "company_code",
        "position",
        "roles",
        "groups",
        "locale",
    ),
)

# OpenID Connect Core §5.4, and two scopes of our own for what the standard ones do not name.
SCOPES: Mapping[str, tuple[str, ...]] = {
    "profile": ("preferred_username", "name", "given_name", "family_name", "locale"),
    "email": ("email", "email_verified"),
    "phone": ("phone_number",),
    "roles": ("roles", "groups"),
    "org": (
        "employee_number",
        "dept_code",
        "dept_name",
        "dept_path",
        "company_code",
        "position",
    ),
}


def release(connection: Connection, snapshot: Snapshot, app: App, user_id: UUID, now: datetime) -> dict[str, Any]:
    """What `app` may know of the identity now, under canonical names and without empty values.

    Roles are the identity's roles in this application, from the snapshot that the decision used.
    """
    user = snapshot.user(user_id)
    if user is None:
        return {}
    wanted = set(app.released_claims)
    values: dict[str, Any] = {"sub": user.sub, "preferred_username": user.login}
    if "roles" in wanted:
        values["roles"] = list(snapshot.roles_in(user_id, app.code, now))
    if "groups" in wanted:
        values["groups"] = sorted(group_paths(user.identity.facts.groups, snapshot.world.group_parents))
    if wanted - {"sub", "preferred_username", "roles", "groups"}:
        values |= _profile(connection, user.person_id) | _work(connection, snapshot, user_id)
    return {name: values[name] for name in CATALOGUE if name in wanted and values.get(name) not in (None, "")}


def for_scopes(values: Mapping[str, Any], scopes: Iterable[str], claims: Iterable[str] = ()) -> dict[str, Any]:
    """Those of the released values that these OpenID scopes, or these claims by name (§5.5), ask for."""
    asked = {name for scope in scopes for name in SCOPES.get(scope, ())} | set(claims)
    return {name: value for name, value in values.items() if name in asked}


def scopes_of(claims: Iterable[str]) -> tuple[str, ...]:
    """The scopes that hold these claims: what a person is asked to agree to when claims are asked for by name."""
    wanted = set(claims)
    return tuple(scope for scope, names in SCOPES.items() if wanted & set(names))


def aliased_for(app: App, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the names that this application gave them."""
    return {app.claim_aliases.get(name, name): value for name, value in values.items()}


_PROFILE = select(PersonProfile.__table__).where(PersonProfile.person_id == bindparam("person"))


def _profile(connection: Connection, person_id: UUID) -> dict[str, Any]:
    row = connection.execute(_PROFILE, {"person": person_id}).first()
    if row is None:
        return {}
    return {
        "name": row.name,
        "given_name": row.given_name,
        "family_name": row.family_name,
        "email": row.mail,
        # A directory's mail is not proven by the person; it is never called verified.
        "email_verified": False if row.mail else None,
        "phone_number": row.phone,
        "locale": row.locale,
    }


_company, _unit = aliased(OrgUnit), aliased(OrgUnit)
# Built once: aliases cost more to make than the query to run.
_WORK = (
    select(
        Employment.employee_number,
        _company.code.label("company"),
        _unit.code.label("unit"),
        _unit.name.label("unit_name"),
        Position.name.label("position"),
    )
    .join(_company, _company.id == Employment.company_id)
    .outerjoin(_unit, _unit.id == Employment.org_unit_id)
    .outerjoin(Position, Position.id == Employment.position_id)
    .where(Employment.user_id == bindparam("user"), Employment.is_primary, Employment.rev_until.is_(None))
)


def _work(connection: Connection, snapshot: Snapshot, user_id: UUID) -> dict[str, Any]:
    row = connection.execute(_WORK, {"user": user_id}).first()
    if row is None:
        return {}
    above = snapshot.org.get(row.unit or row.company, ())
    return {
        "employee_number": row.employee_number,
        "company_code": row.company,
        "dept_code": row.unit,
        "dept_name": row.unit_name,
        "dept_path": "/".join(reversed(above)) or None,
        "position": row.position,
    }
