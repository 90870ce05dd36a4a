"""Organisation units, positions and employments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select

from identity.audit.kinds import Kind
from identity.core.bulk import insert_rows
from identity.core.errors import Conflict, NotFound
from identity.core.record import Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.people.inputs import EmploymentInput, OrgUnitInput
from identity.people.models import (
    Employment,
    OrgClosure,
    OrgPlacement,
    OrgUnit,
    Position,
)
from identity.people.service import get_user


def put_org_unit(
    unit: Unit,
    wanted: OrgUnitInput,
    source_id: UUID | None = None,
    immutable_id: str | None = None,
    *,
    rebuild: bool = True,
) -> OrgUnit:
    """The unit with this code is as given; made when it is new. Raises `NotFound` for an unknown parent or
    company and `Conflict` for a move below itself. `rebuild` false = the caller derives the closure once behind
    several calls (`rebuild_closure`)."""
    unit.require("write", "org_unit", wanted.code)
    row = find_org_unit(unit, wanted.code, wanted.tree)
    created = row is None
    if row is None:
        row = OrgUnit(
            tree=wanted.tree,
            kind=wanted.kind,
            code=wanted.code,
            name=wanted.name,
            currency=wanted.currency,
            source_id=source_id,
            immutable_id=immutable_id,
            created_at=unit.now,
        )
        unit.db.add(row)
        unit.db.flush()
    parent = get_org_unit(unit, wanted.parent_code, wanted.tree) if wanted.parent_code else None
    company = get_org_unit(unit, wanted.company_code, wanted.tree) if wanted.company_code else None
    if company is None and wanted.kind == "company":
        company = row
    before = {"name": row.name, "kind": row.kind, "currency": row.currency}
    after = {"name": wanted.name, "kind": wanted.kind, "currency": wanted.currency}
    renamed = before != after
    row.name, row.kind, row.currency = wanted.name, wanted.kind, wanted.currency
    moved = unit.facts.put(
        unit.db,
        OrgPlacement,
        {"org_unit_id": row.id},
        {
            "parent_id": parent.id if parent else None,
            "company_id": company.id if company else None,
            "active": True,
        },
    )
    if moved and rebuild:
        rebuild_closure(unit)
    if created or moved or renamed:
        unit.facts.touch("org")
        _record(unit, wanted, None if created else before, after)
    return row


def add_departments(
    unit: Unit, source_id: UUID, departments: Sequence[tuple[str, str, OrgUnitInput]], ids: Mapping[str, UUID]
) -> dict[str, UUID]:
    """New departments of a directory (immutable id, DN, what it is), parents first, as plain rows; their ids by code.
    `ids` are the units that are there, by code. The caller derives the closure behind them (`rebuild_closure`).

    Raises `NotFound` for an unknown parent or company.
    """
    made: dict[str, UUID] = {}
    units: list[dict[str, Any]] = []
    placements: list[dict[str, Any]] = []
    for key, dn, wanted in departments:
        made[wanted.code] = unit_id = new_id()
        units.append(
            {
                "id": unit_id,
                "tree": wanted.tree,
                "kind": wanted.kind,
                "code": wanted.code,
                "name": wanted.name,
                "currency": wanted.currency,
                "source_id": source_id,
                "immutable_id": key,
                "dn": dn,
                "created_at": unit.now,
            }
        )
        above = {}
        for name, code in (("parent_id", wanted.parent_code), ("company_id", wanted.company_code)):
            above[name] = (made.get(code) or ids.get(code)) if code else None
            if code and above[name] is None:
                raise NotFound(f"There is no organisation unit {code!r}.")
        placements.append({"org_unit_id": unit_id, **above, "active": True})
        _record(unit, wanted, None, {"name": wanted.name, "kind": wanted.kind, "currency": wanted.currency})
    insert_rows(unit.db.connection(), OrgUnit, units)
    unit.facts.add_rows(OrgPlacement, placements)
    unit.facts.touch("org")
    return made


def _record(unit: Unit, wanted: OrgUnitInput, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    unit.record(
        Record(
            kind=Kind.ORG_UNIT_CREATED if before is None else Kind.ORG_UNIT_CHANGED,
            result="success",
            resource_type="org_unit",
            resource_id=wanted.code,
            before=before,
            after={**after, "parent": wanted.parent_code, "company": wanted.company_code},
        )
    )


def abolish_org_unit(unit: Unit, row: OrgUnit) -> None:
    """The unit is no longer in use; it keeps its place, so that what happened in it can be read."""
    known = place_codes(unit, row.id)
    place = _place(unit, row.id)
    unit.facts.put(
        unit.db,
        OrgPlacement,
        {"org_unit_id": row.id},
        {"parent_id": place.parent_id, "company_id": place.company_id, "active": False},
    )
    unit.facts.touch("org")
    wanted = OrgUnitInput(
        code=row.code,
        name=row.name,
        kind=row.kind,  # type: ignore[arg-type]
        parent_code=known["parent"],
        company_code=known["company"],
    )
    _record(unit, wanted, {"active": True}, {"active": False})


def place_codes(unit: Unit, org_unit_id: UUID) -> dict[str, str | None]:
    """The codes of the unit's `parent` and `company`."""
    place = _place(unit, org_unit_id)
    names = {"parent": place.parent_id, "company": place.company_id}
    return {
        name: unit.db.execute(select(OrgUnit.code).where(OrgUnit.id == key)).scalar_one() if key else None
        for name, key in names.items()
    }


def _place(unit: Unit, org_unit_id: UUID) -> OrgPlacement:
    place = unit.facts.current(unit.db, OrgPlacement, {"org_unit_id": org_unit_id})
    if place is None:
        raise LookupError(f"organisation unit {org_unit_id} has no place")
    return place


def find_org_unit(unit: Unit, code: str, tree: str = "administrative") -> OrgUnit | None:
    """The unit with this code."""
    return unit.db.execute(select(OrgUnit).where(OrgUnit.tree == tree, OrgUnit.code == code)).scalar_one_or_none()


def get_org_unit(unit: Unit, code: str, tree: str = "administrative") -> OrgUnit:
    """The unit with this code; raises `NotFound`."""
    row = find_org_unit(unit, code, tree)
    if row is None:
        raise NotFound(f"There is no organisation unit {code!r}.")
    return row


def rebuild_closure(unit: Unit) -> None:
    """Derive `org_closure` again from the placements as this Unit leaves them; raises `Conflict` for a cycle."""
    parents = _parents(unit)
    rows = []
    for start in parents:
        node: UUID | None = start
        seen: list[UUID] = []
        while node is not None:
            if node in seen:
                raise Conflict(
                    "A unit cannot hang below itself.",
                    f"cycle at {node}",
                    code="org_cycle",
                )
            rows.append({"ancestor_id": node, "descendant_id": start, "depth": len(seen)})
            seen.append(node)
            node = parents.get(node)
    unit.db.execute(delete(OrgClosure))
    if rows:
        unit.db.execute(insert(OrgClosure), rows)


def _parents(unit: Unit) -> dict[UUID, UUID | None]:
    known: Mapping[UUID, UUID | None] = {
        row.org_unit_id: row.parent_id
        for row in unit.db.execute(select(OrgPlacement).where(OrgPlacement.rev_until.is_(None))).scalars()
    }
    pending = {row.org_unit_id: row.parent_id for row in unit.facts.added if isinstance(row, OrgPlacement)}
    bulk = {row["org_unit_id"]: row["parent_id"] for row in unit.facts.bulk.get(OrgPlacement, ())}
    return {**known, **pending, **bulk}


def put_position(unit: Unit, name: str) -> Position:
    """The position with this name (its code), made when it is new."""
    row = unit.db.execute(select(Position).where(Position.code == name)).scalar_one_or_none()
    if row is None:
        row = Position(code=name, name=name)
        unit.db.add(row)
        unit.db.flush()
    return row


def put_employment(unit: Unit, user_id: UUID, wanted: EmploymentInput) -> bool:
    """The identity's primary employment is as given; False when it was so already.

    Raises `Conflict` when another person has the employee number in that company, `NotFound` for unknown units.
    """
    unit.require("write", "user", str(user_id))
    user = get_user(unit, user_id)
    company = get_org_unit(unit, wanted.company_code)
    org_unit = get_org_unit(unit, wanted.org_unit_code) if wanted.org_unit_code else None
    position = put_position(unit, wanted.position) if wanted.position else None
    if wanted.employee_number:
        _check_employee_number(unit, company.id, wanted.employee_number, user.person_id)
    known = unit.facts.current(unit.db, Employment, {"user_id": user_id, "is_primary": True})
    values: dict[str, Any] = {
        "person_id": user.person_id,
        "user_id": user_id,
        "company_id": company.id,
        "org_unit_id": org_unit.id if org_unit else None,
        "position_id": position.id if position else None,
        "manager_person_id": wanted.manager_person_id,
        "employee_number": wanted.employee_number,
        "is_primary": True,
        "valid_from": wanted.valid_from,
        "valid_until": wanted.valid_until,
    }
    key = {"employment_id": known.employment_id if known else new_id()}
    if not unit.facts.put(unit.db, Employment, key, values):
        return False
    unit.facts.touch("user", [user_id])
    unit.record(
        Record(
            kind=Kind.EMPLOYMENT_CHANGED,
            result="success",
            user=user_id,
            person=user.person_id,
            resource_type="employment",
            resource_id=str(key["employment_id"]),
            data={"login": user.login},
            after=wanted.model_dump(mode="json"),
        )
    )
    return True


def _check_employee_number(unit: Unit, company_id: UUID, number: str, person_id: UUID) -> None:
    same = unit.facts.all_current(unit.db, Employment, {"company_id": company_id, "employee_number": number})
    if any(one.person_id != person_id for one in same):
        raise Conflict(
            f"The employee number {number!r} belongs to another person.",
            code="employee_number_taken",
        )
