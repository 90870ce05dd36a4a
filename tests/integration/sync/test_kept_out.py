"""Whom a person disabled, and who was deleted, no directory makes active again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from identity.core.errors import Conflict
from identity.core.record import Actor
from identity.core.secrets import new_id
from identity.people.models import SourceAccount, User
from identity.people.service import set_user_state
from identity.sync import review
from identity.sync.models import SyncChange, SyncDecision
from tests.integration.sync.company import Company

pytestmark = pytest.mark.parametrize("source", ["ldif"], indirect=True)
ADMIN = Actor.system("admin")
KEPT_OUT = "active in the directory, but disabled or deleted here by a person"


def by_hand(company: Company, login: str, state: str) -> None:
    """As the console's page of a user does it."""
    with company.world.unit() as unit:
        set_user_state(unit, company.user(login).id, state, cause="console")


def reasons(company: Company) -> list[str]:
    with company.world.database.read() as connection:
        query = select(SyncChange.reason).where(SyncChange.kind == "conflict")
        return list(connection.execute(query).scalars())


def test_an_administrators_disable_stays_and_is_told(staffed: Company) -> None:
    by_hand(staffed, "user0", "disabled")
    staffed.source.change("user0", mail="new@xinghe.example")
    assert staffed.sync(full=True).counts == {"user_update": 1, "conflict": 1}
    assert reasons(staffed) == [KEPT_OUT]
    assert staffed.state("user0") == "disabled"
    assert 'name="password"' in staffed.world.browser().sign_in("user0").text
    by_hand(staffed, "user0", "active")
    assert staffed.sync(full=True).counts == {}


def test_whom_a_directory_disabled_an_administrator_keeps_out_all_the_same(staffed: Company) -> None:
    staffed.source.disable("user0")
    assert staffed.sync().counts == {"user_disable": 1}
    by_hand(staffed, "user0", "disabled")
    by_hand(staffed, "user0", "disabled")
    staffed.source.enable("user0")
    assert staffed.sync().counts == {"conflict": 1}
    assert (reasons(staffed), staffed.state("user0")) == ([KEPT_OUT], "disabled")


def test_it_outlasts_quarantine_and_a_new_end_of_the_account(staffed: Company) -> None:
    by_hand(staffed, "user5", "disabled")
    staffed.source.remove("user5")
    assert staffed.sync().counts == {"user_missing": 1}
    staffed.source.restore("user5")
    assert staffed.sync().counts == {"user_missing": 1, "conflict": 1}
    staffed.configure(attributes={"valid_until": "employeeType"})
    staffed.source.change("user5", employeeType="20300101000000Z")
    counts = staffed.sync(full=True).counts
    assert counts == {"user_update": 1, "conflict": 1}
    assert staffed.sync(full=True).counts == {"conflict": 1}
    assert staffed.state("user5") == "disabled"


def test_what_a_directory_disabled_it_enables(staffed: Company) -> None:
    staffed.configure(attributes={"valid_until": "employeeType"})
    staffed.source.disable("user5")
    staffed.source.remove("user6")
    staffed.sync()
    staffed.source.change("user5", employeeType="20300101000000Z")
    assert staffed.sync().counts == {"user_update": 1}, "another end of the account is no other cause of its state"
    staffed.source.enable("user5")
    staffed.source.restore("user6")
    assert staffed.sync().counts == {"user_enable": 2}
    assert set(staffed.states().values()) == {"active"}


def test_a_plan_that_waited_for_approval_enables_nobody_whom_a_person_disabled_meanwhile(staffed: Company) -> None:
    staffed.source.disable("user0")
    staffed.sync()
    staffed.source.enable("user0")
    for n in range(1, 8):
        staffed.source.disable(f"user{n}")
    held = staffed.sync()
    assert (held.state, held.counts["user_enable"]) == ("held", 1)
    by_hand(staffed, "user0", "active")
    by_hand(staffed, "user0", "disabled")
    done = review.approve(staffed.world.units, held.run_id, ADMIN, "they left")
    assert (done.state, done.failed) == ("applied", 1)
    assert set(staffed.states().values()) == {"disabled"}


def entry_of(company: Company) -> str:
    with company.world.database.read() as connection:
        query = select(SyncChange.immutable_id).where(SyncChange.kind == "conflict", SyncChange.title == "zhangsan")
        entry: str = connection.execute(query).scalars().first()
    return entry


@pytest.fixture
def leaver(staffed: Company) -> Company:
    """Zhang San, linked by a person's decision, has been missing for so long that he is to be deleted."""
    staffed.world.person("zhangsan")
    staffed.source.add("zhangsan", displayName="张三", o="XH01")
    assert staffed.sync().counts == {"conflict": 1}
    with staffed.world.unit() as unit:
        review.decide(unit, "hq", entry_of(staffed), "link", "zhangsan", "the same person")
    staffed.sync()
    staffed.source.remove("zhangsan")
    staffed.sync(full=True)
    with staffed.world.unit() as unit:
        since = unit.now - timedelta(days=90)
        unit.db.execute(update(SourceAccount).where(SourceAccount.status == "missing").values(missing_since=since))
    return staffed


@pytest.fixture
def deleted(leaver: Company) -> Company:
    """Zhang San has been deleted, and is back."""
    assert leaver.sync(full=True).counts == {"user_delete": 1}
    leaver.source.restore("zhangsan")
    return leaver


def accounts(company: Company, login: str) -> list[Any]:
    with company.world.database.read() as connection:
        query = select(SourceAccount.id).join(User, User.id == SourceAccount.user_id).where(User.login == login)
        return list(connection.execute(query))


def test_a_decision_ends_with_the_identity_that_it_was_about(deleted: Company) -> None:
    assert deleted.sync(full=True).counts == {"conflict": 1}
    assert (deleted.state("zhangsan"), accounts(deleted, "zhangsan")) == ("deleted", [])


def test_a_deleted_identity_is_linked_to_nothing(deleted: Company) -> None:
    with pytest.raises(Conflict), deleted.world.unit() as unit:
        review.decide(unit, "hq", entry_of(deleted), "link", "zhangsan", "he is back")
    with deleted.world.unit() as unit:
        # Decided before he was deleted by another source.
        who = deleted.user("zhangsan").id
        source = unit.db.execute(select(SourceAccount.source_id)).scalars().first()
        values = {"user_id": who, "decided_by": "x", "decided_at": unit.now, "reason": "x"}
        unit.db.add(SyncDecision(source_id=source, immutable_id=entry_of(deleted), action="link", **values))
    done = deleted.sync(full=True)
    assert (done.counts, done.failed) == ({"user_link": 1}, 1)
    assert (deleted.state("zhangsan"), accounts(deleted, "zhangsan")) == ("deleted", [])


def test_an_identity_that_is_deleted_is_linked_to_nothing_in_the_same_run(leaver: Company) -> None:
    leaver.source.add("another", displayName="张三", o="XH01")
    leaver.sync(mode="dry_run")
    with leaver.world.unit() as unit:
        entry = unit.db.execute(select(SyncChange.immutable_id).where(SyncChange.title == "another")).scalars().first()
        assert entry
        review.decide(unit, "hq", entry, "link", "zhangsan", "he is back")
    done = leaver.sync(full=True)
    assert (done.counts, done.failed) == ({"user_delete": 1, "user_link": 1}, 1)
    assert (leaver.state("zhangsan"), accounts(leaver, "zhangsan")) == ("deleted", [])


def test_a_deleted_identity_that_has_an_account_is_not_enabled(deleted: Company) -> None:
    with deleted.world.unit() as unit:
        source = unit.db.execute(select(SourceAccount.source_id)).scalars().first()
        values = {"user_id": deleted.user("zhangsan").id, "dn": "x", "status": "present", "disabled": False}
        more = {"last_seen_at": unit.now, "immutable_id": entry_of(deleted), "seen": {}}
        unit.db.add(SourceAccount(id=new_id(), source_id=source, **values, **more))
    deleted.sync(full=True)
    assert deleted.state("zhangsan") == "deleted"
    assert KEPT_OUT in reasons(deleted)
