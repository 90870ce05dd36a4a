"""Missing accounts: in quarantine, back, or deleted; and the consistency check that finds drift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from identity.core.record import Actor
from identity.login.authenticate import set_password
from identity.login.leavers import forget_credentials_of_deleted
from identity.login.models import LocalPassword
from identity.people.models import Employment, PersonProfile, SourceAccount, User, UserState
from identity.sync import review
from identity.sync.models import SyncRun, SyncState
from tests.integration.sync.company import Company
from tests.integration.sync.test_ways import tick

pytestmark = pytest.mark.parametrize("source", ["ldif"], indirect=True)
ADMIN = Actor.system("admin")


def gone_for(company: Company, days: int) -> None:
    """Every missing account has been missing for so long."""
    with company.world.unit() as unit:
        since = unit.now - timedelta(days=days)
        unit.db.execute(update(SourceAccount).where(SourceAccount.status == "missing").values(missing_since=since))


def test_a_missing_account_is_deleted_when_its_quarantine_is_over(staffed: Company) -> None:
    who = staffed.user("user0")
    with staffed.world.unit() as unit:
        set_password(unit, unit.db.get_one(User, who.id), "a local password of hers")
    staffed.source.remove("user0")
    staffed.sync()
    gone_for(staffed, 89)
    assert staffed.sync(full=True).counts == {}
    gone_for(staffed, 90)
    assert staffed.sync(full=True).counts == {"user_delete": 1}
    with staffed.world.unit() as unit:
        forget_credentials_of_deleted(unit)
    assert staffed.state("user0") == "deleted"
    assert staffed.user("user0").sub == who.sub
    with staffed.world.unit() as unit:
        profile = unit.db.get_one(PersonProfile, who.person_id)
        assert (profile.name, profile.mail, profile.erased_at is None) == ("", None, False)
        assert unit.db.get(LocalPassword, who.id) is None
        assert unit.db.execute(select(Employment.id).where(Employment.user_id == who.id)).first(), "facts stay"
        states = unit.db.execute(select(UserState.state).where(UserState.user_id == who.id)).scalars()
        assert list(states) == ["active", "disabled", "deleted"]
    kinds = [one["kind"] for one in staffed.world.records()]
    assert {"people.user.deleted", "login.credentials.forgotten"} <= set(kinds)
    assert staffed.sync(full=True).counts == {}


def test_whoever_comes_back_after_that_is_a_persons_decision(staffed: Company) -> None:
    before = staffed.user("user0").id
    staffed.source.remove("user0")
    staffed.sync()
    gone_for(staffed, 90)
    staffed.sync(full=True)
    staffed.source.restore("user0")
    assert staffed.sync(full=True).counts == {"conflict": 1}
    assert (staffed.user("user0").id, staffed.state("user0")) == (before, "deleted")


@pytest.mark.case("SY-12")
def test_in_quarantine_everything_survives(staffed: Company) -> None:
    staffed.source.disable("user5")
    staffed.sync()
    staffed.source.remove("user5")
    assert staffed.sync().counts == {"user_missing": 1}
    assert staffed.sync(full=True).counts == {}
    staffed.source.restore("user5")
    assert staffed.sync().counts == {"user_missing": 1}, "back, and disabled as before"
    gone_for(staffed, 1_000)
    staffed.source.enable("user5")
    assert staffed.sync().counts == {"user_enable": 1}
    assert staffed.state("user5") == "active"


def test_nobody_is_deleted_who_is_active_here_or_known_elsewhere_or_where_it_is_off(staffed: Company) -> None:
    staffed.source.remove("user0")
    staffed.sync()
    gone_for(staffed, 1_000)
    staffed.configure(delete_after_days=None)
    assert staffed.sync(full=True).counts == {}
    staffed.configure()
    with staffed.world.unit() as unit:
        who = staffed.user("user0").id
        unit.db.execute(
            update(UserState).where(UserState.user_id == who, UserState.rev_until.is_(None)).values(state="active")
        )
    assert staffed.sync(full=True).counts == {"user_disable": 1}
    assert staffed.state("user0") == "disabled"


def test_many_deletions_wait_for_a_person(staffed: Company) -> None:
    staffed.configure(limits={"user_disable": {"count": 8, "percent": 100}, "left": {"count": 8, "percent": 100}})
    for n in range(6):
        staffed.source.remove(f"user{n}")
    assert staffed.sync().state == "applied"
    gone_for(staffed, 90)
    held = staffed.sync(full=True)
    assert held.state == "held"
    assert "would delete 6 of 8 accounts" in str(held.error)
    assert review.approve(staffed.world.units, held.run_id, ADMIN, "they left in spring").state == "applied"
    assert list(staffed.states().values()).count("deleted") == 6


def drift(company: Company) -> None:
    """Somebody changed by hand what the directory says."""
    with company.world.unit() as unit:
        person = company.user("user1").person_id
        unit.db.execute(update(PersonProfile).where(PersonProfile.person_id == person).values(mail="by-hand@x"))


def mail(company: Company) -> Any:
    with company.world.unit() as unit:
        return unit.db.get_one(PersonProfile, company.user("user1").person_id).mail


def test_a_check_tells_the_drift_and_changes_nothing(staffed: Company) -> None:
    drift(staffed)
    assert staffed.sync().counts == {}, "the file has not changed"
    found = staffed.sync(mode="check")
    assert (found.state, found.counts) == ("planned", {"user_update": 1})
    assert mail(staffed) == "by-hand@x"
    with staffed.world.database.read() as connection:
        assert connection.execute(select(SyncState.compared_at)).scalar_one() is not None


def test_a_check_that_repairs_puts_right_what_the_guard_lets_through(staffed: Company) -> None:
    staffed.connect("hq", staffed.source, check_repairs=True)
    drift(staffed)
    assert staffed.sync(mode="check").state == "applied"
    assert mail(staffed) == "user1@xinghe.example"
    for n in range(6):
        staffed.source.disable(f"user{n}")
    assert staffed.sync(mode="check").state == "held"
    assert set(staffed.states().values()) == {"active"}


def test_the_check_comes_by_its_own_cron_expression(staffed: Company) -> None:
    staffed.connect("hq", staffed.source, check_cron="0 4 * * 6")
    tick(staffed, datetime.now(UTC) + timedelta(days=8))
    with staffed.world.database.read() as connection:
        modes = list(connection.execute(select(SyncRun.mode).order_by(SyncRun.started_at)).scalars())
        assert modes == ["apply", "check"]
        assert connection.execute(select(func.count()).select_from(SyncRun)).scalar_one() == 2
