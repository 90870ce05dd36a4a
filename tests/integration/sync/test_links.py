"""Which identity a directory entry is: decided by the system administrator alone, and never about an administrator."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from identity.core.errors import Refused
from identity.core.record import Actor
from identity.people.models import SourceAccount, User
from identity.roles.inputs import AdminGrantInput
from identity.roles.service_admin_grants import add_admin_grant
from identity.roles.service_assignments import bootstrap_administrator
from identity.sync import review
from identity.sync.models import SyncChange, SyncDecision
from tests.integration.sync.company import Company
from tests.integration.sync.sources import LdifSource


@pytest.fixture
def linked(database_url: str, company: Company) -> Company:
    """Three administrators, and an employee with a right to grant roles."""
    with company.world.unit() as unit:
        for role in ("system", "security", "audit"):
            bootstrap_administrator(unit, f"{role}adm", role, [f"{role}-admin"])
    granter = company.world.person("granter")
    grant = {"holder_kind": "user", "holder": str(granter), "powers": ["assign"], "roles": ["expense:*"]}
    with company.world.unit() as unit:
        add_admin_grant(unit, AdminGrantInput.model_validate(grant))
    return company


def acting(company: Company, login: str) -> Any:
    with company.world.database.read() as connection:
        row = connection.execute(select(User.id, User.person_id).where(User.login == login)).one()
    company.world.fresh()
    actor = Actor("user", login, login, user=row.id, person=row.person_id)
    return company.world.units.open(actor, reason="the same person")


def conflict(company: Company, login: str) -> str:
    """The entry of a directory that has taken somebody's login."""
    assert isinstance(company.source, LdifSource)
    company.source.add(login, o="XH01")
    assert company.sync().counts == {"conflict": 1}
    with company.world.database.read() as connection:
        query = select(SyncChange.immutable_id).where(SyncChange.kind == "conflict", SyncChange.title == login)
        entry: str = connection.execute(query).scalars().first()
    return entry


def decided(company: Company) -> int:
    with company.world.database.read() as connection:
        return len(connection.execute(select(SyncDecision.immutable_id)).all())


@pytest.mark.case("PE-11")
@pytest.mark.parametrize("source", ["ldif"], indirect=True)
@pytest.mark.parametrize("login", ["securityadm", "auditadm", "granter"])
def test_an_administrator_is_never_linked_to_a_directory(linked: Company, login: str) -> None:
    entry = conflict(linked, login)
    with pytest.raises(Refused) as refused, acting(linked, "systemadm") as unit:
        review.decide(unit, "hq", entry, "link", login, "the same person")
    assert refused.value.code == "target_rank"
    assert decided(linked) == 0
    assert linked.sync(full=True).counts == {"conflict": 1}
    with linked.world.database.read() as connection:
        assert connection.execute(select(SourceAccount.user_id)).all() == []


@pytest.mark.case("PE-11")
@pytest.mark.parametrize("source", ["ldif"], indirect=True)
def test_a_link_is_decided_by_the_system_administrator_alone_and_recorded(linked: Company) -> None:
    mine = linked.world.person("zhangsan")
    entry = conflict(linked, "zhangsan")
    for login in ("securityadm", "auditadm", "granter", "zhangsan"):
        with pytest.raises(Refused), acting(linked, login) as unit:
            review.decide(unit, "hq", entry, "link", "zhangsan", "mine")
    assert decided(linked) == 0
    with acting(linked, "systemadm") as unit:
        review.decide(unit, "hq", entry, "link", "zhangsan", "the same person")
    assert linked.sync().counts == {"user_link": 1}
    records = linked.world.records()
    [decision] = [one for one in records if one["kind"] == "sync.conflict.decided"]
    assert (decision["actor"]["name"], decision["why"]) == ("systemadm", "the same person")
    assert decision["data"]["user"] == str(mine)
    assert [one["user"] for one in records if one["kind"] == "people.user.linked"] == [str(mine)]
