"""AdminGrants: who may grant which roles within which bounds (分级授权)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.people.models import OrgUnit, User
from identity.roles.delegation import POWERS
from identity.roles.inputs import AdminGrantInput
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import AdminGrant, Role
from policies import Amount


def add_admin_grant(unit: Unit, wanted: AdminGrantInput) -> AdminGrant:
    """The holder may grant within these bounds from the commit on; the same grant twice is one.

    Raises `Refused` for a grant to oneself or wider than the granter's own, `NotFound` for an unknown holder or unit,
    `Invalid` for administration roles and roles that nobody knows.
    """
    unit.require("delegate", "admin_grant", wanted.holder, _properties(wanted))
    _check(unit, wanted)
    values = row_values(wanted)
    for row in unit.facts.all_current(
        unit.db, AdminGrant, {"holder_kind": wanted.holder_kind, "holder_id": wanted.holder}
    ):
        if all(getattr(row, name) == value for name, value in values.items()):
            return row
    made = AdminGrant(grant_id=new_id(), granted_by=unit.actor.id, **values)
    unit.facts.add(made)
    unit.facts.touch("assignment")
    _record(unit, Kind.ADMIN_GRANT_ADDED, made)
    return made


def revoke_admin_grant(unit: Unit, grant_id: UUID) -> None:
    """It ends with the commit; what was granted by it stays. Raises `NotFound`."""
    row = unit.facts.current(unit.db, AdminGrant, {"grant_id": grant_id})
    if row is None:
        raise NotFound("There is no such right to grant roles.")
    unit.require("revoke", "admin_grant", row.holder_id, _properties(input_of(row)))
    unit.facts.end(row)
    unit.facts.touch("assignment")
    _record(unit, Kind.ADMIN_GRANT_REVOKED, row)


def input_of(row: AdminGrant) -> AdminGrantInput:
    """The grant in the shape in which it is accepted; what was stored under older rules is not judged again."""
    limit = Amount(row.limit_value, row.limit_currency) if row.limit_value is not None and row.limit_currency else None
    value, _, currency = str(limit).partition(" ") if limit else ("", "", "")
    return AdminGrantInput.model_construct(
        holder_kind=row.holder_kind,
        holder=row.holder_id,
        powers=tuple(one for one in row.powers if one in POWERS),
        roles=tuple(row.role_keys),
        company=row.company,
        org_unit=row.org_unit,
        business_type=row.business_type,
        limit={"value": value, "currency": currency} if limit else None,
        max_days=row.max_days,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
    )


def _check(unit: Unit, wanted: AdminGrantInput) -> None:
    if any(one.startswith(f"{CONSOLE_APPLICATION}:") for one in (*wanted.roles, wanted.holder)):
        raise Invalid("Administration roles are never part of a right to grant.", code="administration_role")
    known = set(unit.db.execute(select(Role.key)).scalars())
    prefixes = {one.partition(":")[0] for one in known}
    for one in wanted.roles:
        if one not in known and not (one.endswith(":*") and one[:-2] in prefixes):
            raise Invalid(f"There is no role {one!r}.", code="unknown_role")
    if wanted.holder_kind == "role" and wanted.holder not in known:
        raise NotFound(f"There is no role {wanted.holder!r}.")
    if wanted.holder_kind == "user" and unit.db.get(User, UUID(wanted.holder)) is None:
        raise NotFound("There is no such user.")
    _check_units(unit, wanted.company, wanted.org_unit)


def _check_units(unit: Unit, *codes: str | None) -> None:
    """Raise `NotFound` for a code that no unit has: a scope with it would hold nowhere."""
    for code in codes:
        if code is not None and unit.db.execute(select(OrgUnit.id).where(OrgUnit.code == code)).first() is None:
            raise NotFound(f"There is no organisation unit {code!r}.")


def _properties(wanted: AdminGrantInput) -> dict[str, Any]:
    return {
        "holder_kind": wanted.holder_kind,
        "holder": wanted.holder,
        "powers": list(wanted.powers),
        "roles": list(wanted.roles),
        "company": wanted.company,
        "org_unit": wanted.org_unit,
        "business_type": wanted.business_type,
        "limit": Amount.parse(wanted.limit) if wanted.limit else None,
        "days": wanted.max_days,
    }


def row_values(wanted: AdminGrantInput) -> dict[str, Any]:
    """The row's columns: two grants with the same are one."""
    limit = Amount.parse(wanted.limit) if wanted.limit else None
    return {
        "holder_kind": wanted.holder_kind,
        "holder_id": wanted.holder,
        "powers": sorted(wanted.powers),
        "role_keys": sorted(wanted.roles),
        "company": wanted.company,
        "org_unit": wanted.org_unit,
        "business_type": wanted.business_type,
        "limit_value": limit.value if limit else None,
        "limit_currency": limit.currency if limit else None,
        "max_days": wanted.max_days,
        "valid_from": wanted.valid_from,
        "valid_until": wanted.valid_until,
    }


def _record(unit: Unit, kind: Kind, row: AdminGrant) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=UUID(row.holder_id) if row.holder_kind == "user" else None,
            resource_type="admin_grant",
            resource_id=row.holder_id,
            data=input_of(row).model_dump(mode="json", exclude_none=True),
        )
    )
