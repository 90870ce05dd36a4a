"""What holds for every kind of source."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from identity.people.models import Employment, OrgPlacement, OrgUnit, PersonProfile, Position
from tests.integration.sync.company import EVERY_SOURCE, Company

pytestmark = EVERY_SOURCE


def fill(company: Company) -> None:
    """Two departments, three people, groups that nest in a circle."""
    source = company.source
    source.department("RD", "研发部", company="XH01")
    source.department("RD-SW", "软件组", company="XH01", under="RD")
    source.add(
        "zhangsan",
        displayName="张三",
        mail="zhangsan@xinghe.example",
        departmentNumber="RD-SW",
        o="XH01",
        title="工程师",
    )
    source.change("zhangsan", employeeNumber="1001")
    source.add("lisi", displayName="李四", departmentNumber="RD", o="XH01", employeeNumber="1002")
    source.add("wangwu", displayName="王五", o="XH02", employeeNumber="1001")
    source.change("zhangsan", manager=source.user_dn("lisi"))
    source.group("engineers", "zhangsan")
    source.group("staff", "@engineers", "lisi")
    source.group("engineers", "zhangsan", "@staff")


def test_the_first_run_brings_people_units_positions_and_nested_groups(company: Company) -> None:
    fill(company)
    outcome = company.sync()
    assert (outcome.state, outcome.error) == ("applied", None)
    assert company.states() == dict.fromkeys(("zhangsan", "lisi", "wangwu"), "active")
    assert company.may("lisi", "submit")
    assert company.may("zhangsan", "submit"), "by a group in a group, though the groups are in a circle"
    assert not company.may("wangwu", "submit")
    with company.world.unit() as unit:
        person = company.user("zhangsan").person_id
        profile = unit.db.get(PersonProfile, person)
        job = unit.db.execute(
            select(Employment).where(Employment.person_id == person, Employment.rev_until.is_(None))
        ).scalar_one()
        units = {row.id: row.code for row in unit.db.execute(select(OrgUnit)).scalars()}
        place = unit.db.execute(
            select(OrgPlacement).where(OrgPlacement.org_unit_id == job.org_unit_id, OrgPlacement.rev_until.is_(None))
        ).scalar_one()
        position = unit.db.get(Position, job.position_id)
        assert job.manager_person_id == company.user("lisi").person_id
    assert profile is not None
    assert (profile.name, profile.mail) == ("张三", "zhangsan@xinghe.example")
    assert (units[job.company_id], units[job.org_unit_id], job.employee_number) == ("XH01", "RD-SW", "1001")
    assert position is not None
    assert position.name == "工程师"
    assert (units[place.parent_id], units[place.company_id]) == ("RD", "XH01")


def test_a_second_run_changes_nothing(company: Company) -> None:
    fill(company)
    company.sync()
    again = company.sync()
    assert (again.state, again.counts) == ("applied", {})


def test_sy_04_a_renamed_entry_stays_the_same_identity_and_keeps_its_groups(company: Company) -> None:
    fill(company)
    company.sync()
    before = company.user("zhangsan")
    company.source.rename("zhangsan", "zhangsanfeng")
    company.sync()
    after = company.user("zhangsanfeng")
    assert (after.id, after.sub) == (before.id, before.sub)
    assert company.may("zhangsanfeng", "submit")
    assert company.sync().counts == {}


def test_a_disabled_entry_disables_the_user_and_ends_the_sessions_at_once(company: Company) -> None:
    fill(company)
    company.sync()
    browser = company.world.browser()
    assert browser.sign_in("zhangsan").status_code == 200
    assert 'name="password"' not in browser.follow(browser.go("/")).text
    company.source.disable("zhangsan")
    company.sync()
    assert company.state("zhangsan") == "disabled"
    assert 'name="password"' in browser.follow(browser.go("/")).text
    assert not company.may("zhangsan", "submit")
    assert "is not right" in company.world.browser().sign_in("zhangsan").text
    company.source.enable("zhangsan")
    company.sync()
    assert company.may("zhangsan", "submit")


def test_sy_12_a_missing_entry_is_disabled_and_lives_on_when_it_comes_back(company: Company) -> None:
    fill(company)
    company.sync()
    before = company.user("lisi")
    company.source.group("staff", "@engineers", "zhangsan")
    company.source.remove("lisi")
    company.sync()
    assert company.state("lisi") == "disabled"
    company.source.restore("lisi")
    company.sync()
    after = company.user("lisi")
    assert (after.id, after.sub, company.state("lisi")) == (before.id, before.sub, "active")


def test_the_directory_checks_the_password(company: Company) -> None:
    fill(company)
    company.sync()
    assert company.world.browser().sign_in("lisi").status_code == 200
    for wrong in ("", "wrong", "*", "correct horse battery "):
        assert 'name="password"' in company.world.browser().sign_in("lisi", wrong).text


def test_lost_members_lose_the_role(company: Company) -> None:
    fill(company)
    company.sync()
    assert company.may("lisi", "submit")
    company.source.group("staff", "@engineers", "wangwu")
    company.sync()
    assert not company.may("lisi", "submit")
    assert company.may("wangwu", "submit")


def test_a_changed_attribute_and_a_move_reach_the_person(company: Company) -> None:
    fill(company)
    company.sync()
    company.source.change("lisi", displayName="李四光", departmentNumber="RD-SW", o="XH01")
    outcome = company.sync()
    assert outcome.state == "applied"
    with company.world.unit() as unit:
        person = company.user("lisi").person_id
        rows: list[Any] = list(
            unit.db.execute(select(Employment).where(Employment.person_id == person).order_by(Employment.rev_from))
            .scalars()
            .all()
        )
        profile = unit.db.get(PersonProfile, person)
    assert profile is not None
    assert profile.name == "李四光"
    assert [row.rev_until is None for row in rows] == [False, True], "the earlier employment stays as history"


def test_sy_01_an_empty_answer_is_no_plan(company: Company) -> None:
    fill(company)
    company.sync()
    before = company.states()
    for login in ("zhangsan", "wangwu", "lisi"):
        company.source.remove(login)
    outcome = company.sync(full=True)
    assert outcome.state == "failed"
    assert outcome.error
    assert company.states() == before


def test_sy_06_a_login_of_somebody_else_is_a_conflict_and_nobody_is_merged(company: Company) -> None:
    mine = company.world.person("zhangsan")
    fill(company)
    outcome = company.sync()
    assert outcome.counts.get("conflict") == 1
    assert company.user("zhangsan").id == mine
    assert company.state("lisi") == "active"
