"""A run of one person reads that person, and changes nobody else whatever happened to others."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.people.models import Group, Membership, PersonProfile, User
from identity.sync.models import SyncRun
from identity.sync.only import Only
from identity.sync.work import Outcome
from tests.integration.sync.company import EVERY_SOURCE, Company
from tests.integration.sync.sources import SambaSource

DIRECTORIES = pytest.mark.parametrize(
    ("source", "database_url"), [("slapd", "sqlite"), ("samba", "postgresql")], indirect=True, ids=["slapd", "samba"]
)


@pytest.fixture
def staffed(company: Company) -> Company:
    source = company.source
    source.department("RD", "研发部", company="XH01")
    for n in range(6):
        source.add(f"user{n}", displayName=f"用户{n}", departmentNumber="RD", o="XH01")
    source.group("staff", *(f"user{n}" for n in range(6)))
    source.group("leads", "user0", "user1")
    assert company.sync().state == "applied"
    return company


def only(company: Company, login: str, **options: Any) -> Outcome:
    return company.sync(only=Only(login=login), **options)


def last(company: Company) -> Any:
    with company.world.database.read() as connection:
        return connection.execute(select(SyncRun.__table__).order_by(SyncRun.started_at.desc())).first()


def members(company: Company) -> dict[str, set[str]]:
    query = (
        select(Group.name, User.login)
        .join(Membership, (Membership.group_id == Group.id) & Membership.rev_until.is_(None))
        .join(User, User.id == Membership.user_id)
        .where(Group.source_id.is_not(None))
    )
    found: dict[str, set[str]] = {}
    with company.world.database.read() as connection:
        for group, login in connection.execute(query):
            found.setdefault(group, set()).add(login)
    return found


def title(company: Company, login: str) -> str:
    person: UUID = company.user(login).person_id
    with company.world.database.read() as connection:
        query = select(PersonProfile.name).where(PersonProfile.person_id == person)
        return str(connection.execute(query).scalar_one())


@EVERY_SOURCE
def test_of_many_changes_only_those_of_one_person_are_made(staffed: Company) -> None:
    source = staffed.source
    for n in range(3):
        source.change(f"user{n}", displayName=f"新名{n}")
    source.group("leads", "user2", "user3")
    source.remove("user5")
    assert only(staffed, "USER0").counts == {"user_update": 1, "user_groups": 1}
    assert (title(staffed, "user0"), title(staffed, "user1")) == ("新名0", "用户1")
    assert members(staffed) == {"staff": {f"user{n}" for n in range(6)}, "leads": {"user1"}}
    assert staffed.state("user5") == "active"
    assert only(staffed, "user2").counts == {"user_update": 1, "user_groups": 1}
    assert members(staffed)["leads"] == {"user1", "user2"}
    assert only(staffed, "user5").counts in ({"user_disable": 1}, {"user_disable": 1, "user_groups": 1})
    assert [one for one, state in staffed.states().items() if state == "disabled"] == ["user5"]
    assert only(staffed, "user4").counts == {}


@DIRECTORIES
def test_it_reads_no_more_than_it_needs_and_leaves_the_source_where_it_was(staffed: Company) -> None:
    source = staffed.source
    source.add("user6", displayName="用户6", departmentNumber="RD", o="XH01")
    source.change("user1", displayName="新名1")
    source.group("leads", "user0", "user1", "user6")
    assert only(staffed, "user6").counts == {"user_add": 1}
    run = last(staffed)
    assert (run.complete, run.entries) == (False, 3), "the person, one group and one department"
    assert members(staffed)["leads"] == {"user0", "user1", "user6"}
    assert staffed.sync().counts == {"user_update": 1}
    assert last(staffed).complete is False, "the next run goes on from where the one before had read"
    source.rename("user6", "user7")
    assert only(staffed, "user6").counts in ({"user_update": 1}, {"user_update": 1, "user_groups": 1})
    assert staffed.state("user7") == "active"
    assert only(staffed, "nobody*").counts == {}


@pytest.mark.case("SY-01")
@DIRECTORIES
def test_who_sees_nobody_any_more_disables_nobody(staffed: Company) -> None:
    staffed.configure(users_filter="(&(objectClass=person)(description=nowhere))")
    outcome = only(staffed, "user0")
    assert (outcome.state, outcome.error) == ("failed", "The directory holds no users.")
    assert set(staffed.states().values()) == {"active"}


@pytest.mark.parametrize(("source", "database_url"), [("samba", "sqlite")], indirect=True)
def test_a_primary_group_is_one_of_the_persons(staffed: Company) -> None:
    source = staffed.source
    assert isinstance(source, SambaSource)
    number = source.server.rid(f"CN=leads,{source.groups}")
    source.change("user0", primaryGroupID=str(number), displayName="新名0")
    assert only(staffed, "user0").counts == {"user_update": 1}
    assert "user0" in members(staffed)["leads"]


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_a_login_that_a_transform_makes_is_found_by_the_account(staffed: Company) -> None:
    staffed.configure(transforms=[{"field": "login", "expression": 'replace(value, "user", "u")'}])
    assert staffed.sync().state == "applied"
    staffed.source.change("user0", displayName="新名0")
    assert only(staffed, "u0").counts == {"user_update": 1}
    assert last(staffed).complete is False
    staffed.source.add("user6", displayName="用户6", o="XH01")
    assert only(staffed, "u6").counts == {"user_add": 1}
    assert last(staffed).complete is True
