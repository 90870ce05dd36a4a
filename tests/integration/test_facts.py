"""What one Unit says about a fact several times is one fact afterwards, and each change starts from the one before."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from identity.core import migrate
from identity.core.db import Fact
from identity.core.errors import Conflict, NotFound
from identity.core.facts import known
from identity.people.inputs import EmploymentInput, OrgUnitInput
from identity.people.models import Employment, Membership, UserState
from identity.people.service import set_user_state
from identity.people.service_groups import change_members, get_group
from identity.people.service_org import abolish_org_unit, place_codes, put_employment, put_org_unit
from identity.roles.inputs import AssignmentInput
from identity.roles.models import Assignment
from identity.roles.service_assignments import assign, revoke
from tests.world import World


def company(world: World, code: str = "C1") -> None:
    with world.unit() as unit:
        put_org_unit(unit, OrgUnitInput(code=code, name=code, kind="company"))


def rows(world: World, table: type[Fact], **where: Any) -> list[Any]:
    """The rows that are known now."""
    with world.unit() as unit:
        return list(unit.db.execute(select(table).filter_by(**where).where(known(table))).scalars())


def kinds(world: World, user_id: UUID) -> list[str]:
    return [one["kind"] for one in world.records() if one.get("user") == str(user_id)]


def test_an_employment_stated_twice_in_one_unit_is_one(world: World) -> None:
    company(world)
    zhang = world.person("zhang")
    with world.unit() as unit:
        assert put_employment(unit, zhang, EmploymentInput(company_code="C1", position="clerk"))
        assert put_employment(unit, zhang, EmploymentInput(company_code="C1", position="head"))
        assert not put_employment(unit, zhang, EmploymentInput(company_code="C1", position="head"))
    (first,) = rows(world, Employment, user_id=zhang)
    with world.unit() as unit:
        assert put_employment(unit, zhang, EmploymentInput(company_code="C1", position="clerk"))
        assert put_employment(unit, zhang, EmploymentInput(company_code="C1", position="head", employee_number="7"))
    (second,) = rows(world, Employment, user_id=zhang)
    assert (second.employment_id, second.employee_number) == (first.employment_id, "7")


def test_two_persons_given_one_employee_number_in_one_unit_are_refused(world: World) -> None:
    company(world)
    zhang, li = world.person("zhang"), world.person("li")
    numbered = EmploymentInput(company_code="C1", employee_number="7")
    with world.unit() as unit:
        put_employment(unit, zhang, numbered)
        with pytest.raises(Conflict, match="another person"):
            put_employment(unit, li, numbered)
    with world.unit() as unit:
        put_employment(unit, zhang, EmploymentInput(company_code="C1", employee_number="8"))
        put_employment(unit, li, numbered)
    assert len(rows(world, Employment, employee_number="7")) == 1


def test_a_second_primary_employment_is_refused_by_the_database(world: World) -> None:
    """As two Units at the same time would make it."""
    company(world)
    zhang = world.person("zhang")
    with world.unit() as unit:
        put_employment(unit, zhang, EmploymentInput(company_code="C1"))
    (row,) = rows(world, Employment, user_id=zhang)
    with pytest.raises(Conflict), world.unit() as unit:
        unit.facts.add(_another(row))
    assert len(rows(world, Employment, user_id=zhang)) == 1


def _another(row: Employment, **changed: Any) -> Employment:
    names = [one.key for one in Employment.__table__.columns if one.key not in {"id", "rev_until"}]
    return Employment(**{name: getattr(row, name) for name in names} | {"employment_id": UUID(int=1)} | changed)


def test_the_migration_keeps_the_employment_that_was_said_last(world: World) -> None:
    company(world)
    zhang = world.person("zhang")
    with world.unit() as unit:
        put_employment(unit, zhang, EmploymentInput(company_code="C1", employee_number="7"))
    (row,) = rows(world, Employment, user_id=zhang)
    migrate.downgrade(world.database.engine, "0023_outage")
    with world.unit() as unit:
        unit.facts.add(_another(row, employee_number="8"))
        before = unit.db.execute(select(func.max(Employment.rev_from))).scalar_one()
    migrate.upgrade(world.database.engine)
    (kept,) = rows(world, Employment, user_id=zhang)
    assert kept.employee_number == "8"
    with world.unit() as unit:
        closed = unit.db.get_one(Employment, row.id)
        assert closed.rev_until is not None
        assert closed.rev_until > kept.rev_from > before


def test_a_state_set_back_in_the_same_unit_is_as_it_was(world: World) -> None:
    zhang = world.person("zhang")
    with world.unit() as unit:
        assert set_user_state(unit, zhang, "disabled", cause="test")
        assert set_user_state(unit, zhang, "active", cause="test")
        assert not set_user_state(unit, zhang, "active", cause="test")
    (row,) = rows(world, UserState, user_id=zhang)
    assert row.state == "active"
    told = [(one["kind"], one["before"]["state"]) for one in world.records() if one.get("before", {}).get("state")]
    assert told == [("people.user.disabled", "active"), ("people.user.enabled", "disabled")]


def test_a_member_taken_out_twice_is_taken_out_once(world: World) -> None:
    zhang = world.person("zhang", "staff")
    with world.unit() as unit:
        staff = get_group(unit, "staff").id
        assert change_members(unit, staff, remove=[zhang]) == 1
        assert change_members(unit, staff, remove=[zhang]) == 0
        assert change_members(unit, staff, add=[zhang, zhang]) == 1
        assert change_members(unit, staff, remove=[zhang, zhang]) == 1
    assert rows(world, Membership, user_id=zhang) == []
    assert kinds(world, zhang).count("people.group_member.removed") == 2


def test_an_assignment_of_the_same_unit_can_be_taken_back(world: World) -> None:
    zhang = world.person("zhang")
    wanted = AssignmentInput(holder_kind="user", holder_id=zhang, role="expense:employee")
    with world.unit() as unit:
        kept = assign(unit, wanted).assignment_id
        revoke(unit, assign(unit, wanted).assignment_id)
    assert [one.assignment_id for one in rows(world, Assignment, holder_id=zhang)] == [kept]
    with world.unit() as unit:
        revoke(unit, kept)
        with pytest.raises(NotFound):
            revoke(unit, kept)
    assert rows(world, Assignment, holder_id=zhang) == []


def test_a_department_made_and_abolished_in_one_unit_keeps_its_place(world: World) -> None:
    company(world)
    with world.unit() as unit:
        made = put_org_unit(
            unit, OrgUnitInput(code="D1", name="D1", kind="department", parent_code="C1", company_code="C1")
        )
        assert place_codes(unit, made.id) == {"parent": "C1", "company": "C1"}
        abolish_org_unit(unit, made)
