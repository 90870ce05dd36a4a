"""Runs: held, approved, rejected, undone, killed, one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from identity.alarms.check import check
from identity.alarms.models import Alarm
from identity.audit.index import index_new
from identity.core.errors import Conflict, NotFound, Unavailable
from identity.core.lease import Lease, acquire, release
from identity.core.record import Actor
from identity.people.models import GroupEdge, Membership, PersonProfile, SourceAccount, UserState
from identity.sync import review
from identity.sync.models import SyncChange, SyncRun, SyncState
from identity.sync.only import Only
from identity.sync.schedule import Scheduler
from tests.integration.sync.company import Company
from tests.integration.sync.sources import LdifSource

pytestmark = pytest.mark.parametrize("source", ["ldif"], indirect=True)
ADMIN = Actor.system("admin")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def staffed(company: Company) -> Company:
    """Eight people of whom six are staff, in the books already."""
    company.fill(staff=6)
    return company


def leave(company: Company, many: int) -> None:
    for n in range(many):
        company.source.disable(f"user{n}")


def test_a_group_that_leaves_another_or_gets_another_name_gives_no_role_by_it(staffed: Company) -> None:
    source = staffed.source
    assert isinstance(source, LdifSource)
    staff = [f"user{n}" for n in range(6)]
    source.group("office", "user6")
    source.group("staff", *staff, "@office")
    staffed.sync()
    assert staffed.may("user6", "submit")
    source.group("staff", *staff)
    staffed.sync()
    assert not staffed.may("user6", "submit")
    assert staffed.may("user0", "submit")
    source.rename_group("staff", "people")
    staffed.sync()
    assert not staffed.may("user0", "submit"), "mapping rows name groups"
    told = [one["data"]["group"] for one in staffed.world.records() if one["kind"] in CHANGED]
    assert told == ["staff", "people"]


CHANGED = {"people.group.unnested", "people.group.changed"}


def run_row(company: Company, run_id: Any) -> SyncRun:
    with company.world.unit() as unit:
        found: SyncRun = unit.db.get_one(SyncRun, run_id)
        unit.db.expunge(found)
        return found


def test_too_many_disables_wait_and_exactly_that_plan_is_approved(staffed: Company) -> None:
    leave(staffed, 6)
    held = staffed.sync()
    assert held.state == "held"
    assert "disable 6 of 8 active accounts" in str(held.error)
    assert set(staffed.states().values()) == {"active"}
    staffed.source.enable("user5")
    staffed.source.disable("user7")
    done = review.approve(staffed.world.units, held.run_id, ADMIN, "six people left")
    assert done.state == "applied"
    gone = {login for login, state in staffed.states().items() if state == "disabled"}
    assert gone == {f"user{n}" for n in range(6)}, "what was shown, not what the directory says by now"
    with pytest.raises(Conflict):
        review.approve(staffed.world.units, held.run_id, ADMIN, "again")


def test_a_held_plan_that_others_have_overtaken_is_not_applied(staffed: Company) -> None:
    leave(staffed, 6)
    held = staffed.sync()
    staffed.sync(only=Only(login="user7"))
    with pytest.raises(Conflict):
        review.approve(staffed.world.units, held.run_id, ADMIN, "late")
    newer = staffed.sync()
    assert newer.state == "held"
    assert run_row(staffed, held.run_id).state == "superseded"
    review.reject(staffed.world.units, newer.run_id, ADMIN, "a mistake in the directory")
    assert run_row(staffed, newer.run_id).state == "rejected"
    assert set(staffed.states().values()) == {"active"}


@pytest.mark.case("SY-03")
def test_a_dry_run_shows_who_gains_and_loses_and_changes_nothing(staffed: Company) -> None:
    staffed.source.group("staff", *(f"user{n}" for n in range(1, 7)))
    planned = staffed.sync(mode="dry_run")
    assert (planned.state, planned.counts) == ("planned", {"user_groups": 2})
    effects = run_row(staffed, planned.run_id).effects
    assert effects["gains"]["expense:employee"]["logins"] == ["user6"]
    assert effects["losses"]["expense:employee"]["logins"] == ["user0"]
    assert staffed.may("user0", "submit")


def test_undo_takes_an_applied_run_back_and_pauses_the_source(staffed: Company) -> None:
    before = facts(staffed)
    staffed.source.disable("user0")
    staffed.source.change("user1", displayName="改名", mail="new@xinghe.example")
    staffed.source.add("user9", displayName="新人", o="XH02")
    staffed.source.group("staff", "user2", "user6", "user9")
    staffed.source.department("RD", "研发部", company="XH01")
    applied = staffed.sync()
    assert applied.state == "applied", applied
    with staffed.world.unit() as unit:
        person = staffed.user("user1").person_id
        unit.db.execute(update(PersonProfile).where(PersonProfile.person_id == person).values(mail="by-hand@x"))
    done = review.undo(staffed.world.units, applied.run_id, ADMIN, "wrong file")
    assert (done.state, done.failed) == ("applied", 0)
    after = facts(staffed)
    assert staffed.state("user9") == "disabled"
    assert after["names"]["user1"] == before["names"]["user1"]
    assert after["mails"]["user1"] == "by-hand@x", "what was changed since stays"
    assert after["members"] == before["members"]
    assert after["states"] == before["states"] | {"user9": "disabled"}
    tick(staffed, later(staffed, 1_000))
    assert staffed.state("user9") == "disabled", "paused: the directory would only say it again"
    with pytest.raises(Conflict):
        review.undo(staffed.world.units, applied.run_id, ADMIN, "twice")
    review.resume(staffed.world.units, "hq", ADMIN, "the file is right after all")
    staffed.sync()
    assert staffed.state("user9") == "active"


def tick(company: Company, now: Any) -> None:
    """What the worker does at this time."""
    scheduler = Scheduler(company.world.units, UTC)
    scheduler.tick(now)
    scheduler.close()


def later(company: Company, seconds: int) -> Any:
    with company.world.unit() as unit:
        return unit.now + timedelta(seconds=seconds)


def facts(company: Company) -> dict[str, Any]:
    """Who is what, by login."""
    logins = {company.user(login).person_id: login for login in company.states()}
    users = {company.user(login).id: login for login in company.states()}
    with company.world.database.read() as connection:
        profiles = list(connection.execute(select(PersonProfile.person_id, PersonProfile.name, PersonProfile.mail)))
        members = connection.execute(select(Membership.user_id).where(Membership.rev_until.is_(None))).scalars()
        return {
            "names": {logins[row.person_id]: row.name for row in profiles if row.person_id in logins},
            "mails": {logins[row.person_id]: row.mail for row in profiles if row.person_id in logins},
            "members": sorted(users[one] for one in members),
            "states": company.states(),
        }


@pytest.mark.case("SY-10", "RF-16")
@pytest.mark.parametrize("stage", ["store", "applied"])
def test_a_run_that_was_killed_comes_to_the_same_end(company: Company, stage: str) -> None:
    for n in range(4):
        company.source.add(f"user{n}", displayName=f"用户{n}", o="XH01", departmentNumber="RD")
    company.source.department("RD", "研发部", company="XH01")
    company.source.group("staff", "user0", "user1")
    company.source.group("all", "@staff", "user2")
    settings = company.world.settings
    env = {
        **os.environ,
        "DATABASE_URL": settings.sqlalchemy_url,
        "TESSERA_VAR": str(settings.tessera_var),
        "TESSERA_DEMO": "1",
        "LOG_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.sync.killed", stage], cwd=ROOT, env=env, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(Conflict):
        company.sync()
    with company.world.unit() as unit:
        unit.db.execute(update(Lease).values(expires_at=unit.now))
    assert company.sync().state == "applied"
    assert company.states() == {f"user{n}": "active" for n in range(4)}
    assert company.may("user1", "submit")
    assert company.sync(full=True).counts == {}
    with company.world.database.read() as connection:
        open_runs = select(func.count()).select_from(SyncRun).where(SyncRun.state.in_(("running", "applying")))
        assert connection.execute(open_runs).scalar_one() == 0
        edges = select(func.count()).select_from(GroupEdge).where(GroupEdge.rev_until.is_(None))
        assert connection.execute(edges).scalar_one() == 1


@pytest.mark.case("SY-10")
def test_one_run_of_a_source_at_a_time_and_a_late_one_writes_nothing(staffed: Company) -> None:
    with staffed.world.unit() as unit:
        other = acquire(unit.db, "sync:hq", "another node", unit.now, 60)
    with pytest.raises(Conflict):
        staffed.sync()
    with staffed.world.unit() as unit:
        release(unit.db, other, unit.now)
    staffed.source.disable("user0")

    def steal(stage: str, _done: int) -> None:
        if stage == "apply":
            with staffed.world.unit() as unit:
                unit.db.execute(update(Lease).values(holder="thief", fence=Lease.fence + 1))

    assert staffed.sync(progress=steal).state == "failed"
    assert staffed.state("user0") == "active"


def test_a_change_that_cannot_be_made_stands_alone(staffed: Company) -> None:
    staffed.source.add("user8", displayName="八", o="NOWHERE")
    staffed.source.add("user9", displayName="九", o="XH01")
    outcome = staffed.sync()
    assert (outcome.state, outcome.failed) == ("applied", 1)
    assert staffed.state("user9") == "active"
    assert staffed.state("user8") is None
    with staffed.world.database.read() as connection:
        problem = select(SyncChange.title, SyncChange.error).where(SyncChange.error.is_not(None))
        row = connection.execute(problem).one()
    assert row.title == "user8"
    assert "NOWHERE" in row.error
    staffed.source.change("user8", o="XH02")
    staffed.sync()
    assert staffed.state("user8") == "active"


def test_a_person_decides_a_conflict_and_the_next_run_does_it(staffed: Company) -> None:
    mine = staffed.world.person("zhangsan")
    staffed.source.add("zhangsan", displayName="张三", o="XH01")
    assert staffed.sync().counts == {"conflict": 1}
    with staffed.world.database.read() as connection:
        entry = connection.execute(select(SyncChange.immutable_id).where(SyncChange.kind == "conflict")).scalar_one()
    with staffed.world.unit() as unit:
        with pytest.raises(NotFound):
            review.decide(unit, "hq", entry, "link", "nobody", "the same person")
        review.decide(unit, "hq", entry, "link", "zhangsan", "the same person")
    assert staffed.sync().counts == {"user_link": 1}
    with staffed.world.database.read() as connection:
        linked = select(SourceAccount.user_id).where(SourceAccount.immutable_id == entry)
        assert connection.execute(linked).scalar_one() == mine
    assert staffed.sync(full=True).counts == {"user_update": 1, "user_move": 1}
    assert staffed.sync(full=True).counts == {}


@pytest.mark.case("SY-07")
def test_local_people_are_never_touched(staffed: Company) -> None:
    local = staffed.world.person("breakglass", "staff-of-ours")
    leave(staffed, 3)
    assert staffed.sync().state == "applied"
    assert staffed.state("breakglass") == "active"
    staffed.source.path.unlink()  # type: ignore[attr-defined]
    assert staffed.sync().state == "failed"
    assert staffed.world.browser().sign_in("breakglass").status_code == 200
    assert local


def test_two_sources_speak_by_precedence(staffed: Company, tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    hr = LdifSource(tmp_path / "hr")
    hr.add("user0", displayName="人事名", mail="", o="XH01")
    hr.change("user0", mail="hr@xinghe.example")
    for code, source, rank in (("hq", staffed.source, 200), ("hr", hr, 100)):
        staffed.connect(code, source, settings={"forest": "corp"}, precedence=rank)
    assert staffed.sync("hr").counts == {"user_link": 1}
    staffed.sync("hr", full=True)
    assert facts(staffed)["mails"]["user0"] == "hr@xinghe.example"
    assert staffed.sync("hq", full=True).counts == {}, "the lower source does not say it back"
    staffed.source.disable("user0")
    staffed.sync("hq")
    assert staffed.state("user0") == "active", "the leading source decides about the state"
    hr.disable("user0")
    staffed.sync("hr")
    assert staffed.state("user0") == "disabled"


def test_a_failing_source_is_tried_again_later_and_later(staffed: Company) -> None:
    staffed.connect("hq", staffed.source, interval_s=10, settings={"path": "/nowhere"})
    for seconds, failures in ((20, 1), (25, 1), (45, 2), (60, 2), (90, 3)):
        tick(staffed, later(staffed, seconds))
        with staffed.world.unit() as unit:
            row = unit.db.execute(select(SyncState)).scalar_one()
            assert row.failures >= 1
            assert row.failures <= failures + 1
    with staffed.world.database.read() as connection:
        assert set(connection.execute(select(UserState.state)).scalars()) == {"active"}


def test_id_01_02_spellings_reserved_and_invisible_logins_make_no_identity(company: Company) -> None:
    company.source.add("lisi", o="XH01")
    company.source.add("administrator", o="XH01")
    company.source.add("ＬＩＳＩ", o="XH01")
    company.source.add("wang\u200bwu", o="XH01")
    outcome = company.sync()
    assert outcome.state == "applied"
    states = company.states()
    assert "administrator" not in states
    assert not any(one != one.strip() or "\u200b" in one for one in states)
    assert sum(one.casefold() in {"lisi", "ｌｉｓｉ"} for one in states) <= 1


def test_an_alarm_tells_of_a_held_run(staffed: Company) -> None:
    leave(staffed, 6)
    held = staffed.sync()
    now = later(staffed, 1)
    index_new(staffed.world.database, now)
    check(staffed.world.units, now, UTC)
    with staffed.world.database.read() as connection:
        alarm = connection.execute(select(Alarm.__table__).where(Alarm.rule == "sync-stopped")).one()
    assert alarm.key == "directory:hq"
    assert alarm.detail["run"] == str(held.run_id)


def test_a_run_that_is_told_to_stop_is_finished_by_the_next_one(company: Company) -> None:
    company.source.add("zhang", o="XH01")
    company.source.group("staff", "zhang")

    def stop(stage: str, _done: int) -> None:
        if stage == "applied":
            raise Unavailable("The process was stopped.")

    stopped = company.sync(progress=stop)
    assert run_row(company, stopped.run_id).state == "applying"
    assert company.sync().state == "applied"
    assert run_row(company, stopped.run_id).state == "applied"
    assert company.states() == {"zhang": "active"}


def test_what_a_stopped_scheduler_still_runs_goes_no_further(company: Company) -> None:
    company.connect("hq", company.source, interval_s=60)
    scheduler = Scheduler(company.world.units, UTC)
    scheduler.close()
    with company.world.unit() as unit:
        now = unit.now
    scheduler.tick(now)
    scheduler.close()
    with company.world.unit() as unit:
        run = unit.db.execute(select(SyncRun)).scalar_one()
        assert (run.state, run.error) == ("failed", "The process was stopped.")
