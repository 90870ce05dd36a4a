"""When a source runs: by interval, by cron, live, by hand for one entry or for what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from identity.core.errors import Conflict
from identity.core.lease import Lease, acquire, release
from identity.core.record import Actor
from identity.directory.factory import open_directory
from identity.directory.models import DirectorySource
from identity.sync import review
from identity.sync.live import Watcher, look
from identity.sync.models import SyncRun, SyncState
from identity.sync.run import run_on
from identity.sync.schedule import Scheduler
from tests.integration.sync.company import Company

ADMIN = Actor.system("admin")
LDIF = pytest.mark.parametrize("source", ["ldif"], indirect=True)
LIVE = pytest.mark.parametrize(
    ("source", "database_url"), [("slapd", "postgresql"), ("samba", "sqlite")], indirect=True, ids=["slapd", "samba"]
)


@pytest.fixture
def staffed(company: Company) -> Company:
    for n in range(4):
        company.source.add(f"user{n}", displayName=f"用户{n}", o="XH01")
    company.source.group("staff", "user0", "user1")
    assert company.sync().state == "applied"
    return company


@pytest.fixture
def scheduler(staffed: Company) -> Iterator[Scheduler]:
    found = Scheduler(staffed.world.units, UTC)
    yield found
    found.close()


def tick(company: Company, now: datetime, zone: Any = UTC) -> None:
    """What the worker does at this time, to its end."""
    scheduler = Scheduler(company.world.units, zone)
    scheduler.tick(now)
    scheduler.close()


def runs(company: Company) -> list[Any]:
    with company.world.database.read() as connection:
        return list(connection.execute(select(SyncRun.__table__).order_by(SyncRun.started_at)))


def state(company: Company) -> Any:
    with company.world.database.read() as connection:
        return connection.execute(select(SyncState.__table__)).one()


def until(happens: Callable[[], bool]) -> None:
    for _ in range(1_200):
        if happens():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


@LDIF
def test_a_source_runs_by_its_cron_expression_in_the_organisations_zone(staffed: Company) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    last = state(staffed).checked_at.astimezone(zone)
    night = last.replace(hour=3, minute=0, second=0, microsecond=0)
    night += timedelta(days=0 if last < night else 1)
    staffed.connect("hq", staffed.source, cron="0 3 * * *")
    before = len(runs(staffed))
    tick(staffed, (night - timedelta(seconds=1)).astimezone(UTC), zone)
    assert len(runs(staffed)) == before
    tick(staffed, night.astimezone(UTC), zone)
    assert len(runs(staffed)) == before + 1


@LDIF
def test_a_run_by_cron_that_failed_is_tried_again_before_the_next_night(staffed: Company) -> None:
    staffed.connect("hq", staffed.source, cron="0 3 * * *", settings={"path": "/nowhere"})
    night = state(staffed).checked_at + timedelta(days=2)
    tick(staffed, night)
    assert state(staffed).failures == 1
    again = state(staffed).checked_at
    tick(staffed, again + timedelta(seconds=59))
    assert state(staffed).failures == 1
    tick(staffed, again + timedelta(seconds=60))
    assert state(staffed).failures == 2


@LDIF
def test_a_paused_or_disabled_source_does_not_run(staffed: Company) -> None:
    staffed.connect("hq", staffed.source, interval_s=1, enabled=False)
    before = len(runs(staffed))
    tick(staffed, datetime.now(UTC) + timedelta(hours=1))
    assert len(runs(staffed)) == before


@LDIF
def test_what_could_not_be_done_is_planned_again_alone(staffed: Company) -> None:
    staffed.source.add("user8", displayName="八", o="NOWHERE")
    broken = staffed.sync()
    assert broken.failed == 1
    staffed.source.change("user8", o="XH02")
    staffed.source.change("user0", displayName="改")
    done = review.retry(staffed.world.units, broken.run_id, ADMIN)
    assert (done.state, done.counts, done.failed) == ("applied", {"user_add": 1}, 0)
    with pytest.raises(Conflict):
        review.retry(staffed.world.units, done.run_id, ADMIN)
    assert staffed.sync().counts == {"user_update": 1}


@LDIF
def test_a_plan_that_is_held_already_stays_the_one_to_approve(staffed: Company) -> None:
    for n in range(4, 12):
        staffed.source.add(f"user{n}", o="XH01")
    staffed.sync()
    for n in range(7):
        staffed.source.disable(f"user{n}")
    held = staffed.sync()
    again = staffed.sync()
    assert (held.state, again.state) == ("held", "superseded")
    assert review.approve(staffed.world.units, held.run_id, ADMIN, "they left").state == "applied"


@LIVE
def test_a_change_in_a_live_directory_arrives_by_itself(staffed: Company, scheduler: Scheduler) -> None:
    staffed.connect("hq", staffed.source, live=True)
    scheduler.tick(datetime.now(UTC))
    before = staffed.user("user3").id
    assert not staffed.may("user3", "submit")
    staffed.source.group("staff", "user0", "user3")
    until(lambda: staffed.may("user3", "submit"))
    assert not staffed.may("user1", "submit")
    staffed.source.disable("user0")
    until(lambda: staffed.state("user0") == "disabled")
    staffed.source.rename("user3", "user33")
    until(lambda: staffed.state("user33") == "active")
    assert staffed.user("user33").id == before


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_what_concerns_nobody_here_leaves_no_run_but_is_read_up_to(staffed: Company, scheduler: Scheduler) -> None:
    staffed.connect("hq", staffed.source, live=True)
    scheduler.tick(datetime.now(UTC))
    until(lambda: len(runs(staffed)) >= 1)
    cursor, before = state(staffed).cursor, len(runs(staffed))
    staffed.source.change("user0", roomNumber="17")
    until(lambda: state(staffed).cursor != cursor)
    assert len(runs(staffed)) == before


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_only_one_node_watches_and_a_live_source_that_is_paused_rests(staffed: Company, scheduler: Scheduler) -> None:
    with staffed.world.unit() as unit:
        other = acquire(unit.db, "watch:hq", "another node", unit.now, 3_600)
    staffed.connect("hq", staffed.source, live=True)
    scheduler.tick(datetime.now(UTC))
    until(lambda: not scheduler.watches("hq"))
    with staffed.world.unit() as unit:
        release(unit.db, other, unit.now)
        unit.db.get_one(SyncState, state(staffed).source_id).paused = "by hand"
    scheduler.tick(datetime.now(UTC))
    assert not scheduler.watches("hq")
    review.resume(staffed.world.units, "hq", ADMIN, "go on")
    staffed.source.disable("user0")
    scheduler.tick(datetime.now(UTC))
    until(lambda: staffed.state("user0") == "disabled")


@pytest.mark.case("RF-21")
@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_a_live_directory_that_was_away_is_watched_again(staffed: Company, scheduler: Scheduler) -> None:
    slapd = staffed.source.slapd  # type: ignore[attr-defined]
    staffed.connect("hq", staffed.source, live=True)
    scheduler.tick(datetime.now(UTC))
    slapd.stop()
    until(lambda: runs(staffed)[-1].state == "failed")
    assert set(staffed.states().values()) == {"active"}
    slapd.start()
    staffed.source.disable("user0")
    until(lambda: staffed.state("user0") == "disabled")


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
@pytest.mark.parametrize("why", ["it is held", "a change of it cannot be made"])
def test_a_live_directory_whose_plan_is_not_all_done_is_read_whole_later_and_later(
    staffed: Company, scheduler: Scheduler, why: str
) -> None:
    if why == "it is held":
        staffed.configure(limits={"user_disable": {"count": 0, "percent": 0}})
        staffed.source.disable("user0")
    else:
        staffed.source.add("user8", displayName="八", o="NOWHERE")
    before = len(runs(staffed))
    staffed.connect("hq", staffed.source, live=True, settings=settings_of(staffed))
    scheduler.tick(datetime.now(UTC))
    until(lambda: len(runs(staffed)) >= before + 3)
    first, second, third = runs(staffed)[before : before + 3]
    assert second.started_at - first.started_at >= timedelta(seconds=2)
    assert third.started_at - second.started_at >= timedelta(seconds=4)


def watch_after_many_tries(company: Company, scheduler: Scheduler) -> None:
    """A watcher whose next rest is of five minutes."""
    company.connect("hq", company.source, live=True, settings=settings_of(company))
    watcher = Watcher(company.world.units, "hq")
    watcher._failures = 9
    scheduler._watchers["hq"] = watcher
    watcher.start()


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_one_change_that_cannot_be_made_delays_no_other(staffed: Company, scheduler: Scheduler) -> None:
    staffed.source.add("user8", displayName="八", o="NOWHERE")
    watch_after_many_tries(staffed, scheduler)
    until(lambda: runs(staffed)[-1].failed > 0 and runs(staffed)[-1].state == "applied")
    for n in range(3):
        staffed.source.disable(f"user{n}")
        until(lambda n=n: staffed.state(f"user{n}") == "disabled")  # type: ignore[misc]
    made = [run for run in runs(staffed) if "user_disable" in run.counts]
    assert made
    assert not any(run.complete or run.failed for run in made), "only what changed was read"
    staffed.source.change("user8", o="XH01")
    until(lambda: staffed.state("user8") == "active")
    assert state(staffed).full_at is None, "everything is still to be read"


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_a_live_directory_whose_plan_was_approved_is_live_again_at_once(staffed: Company, scheduler: Scheduler) -> None:
    staffed.configure(limits={"user_disable": {"count": 0, "percent": 0}})
    staffed.source.disable("user1")
    watch_after_many_tries(staffed, scheduler)
    until(lambda: runs(staffed)[-1].state == "held")
    review.approve(staffed.world.units, runs(staffed)[-1].id, ADMIN, "they left")
    staffed.source.rename("user3", "user33")
    until(lambda: staffed.state("user33") == "active")


def settings_of(company: Company) -> Any:
    with company.world.database.read() as connection:
        return connection.execute(select(DirectorySource.settings)).scalar_one()


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_no_fault_ends_the_watch(
    staffed: Company, scheduler: Scheduler, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    before = settings_of(staffed)
    staffed.connect("hq", staffed.source, live=True)
    with staffed.world.unit() as unit:
        # Nothing that a configuration could say: a file does not tell how far it is.
        values = {"kind": "ldif", "settings": {"path": str(tmp_path / "none.ldif")}}
        unit.db.execute(update(DirectorySource).values(**values))
    scheduler.tick(datetime.now(UTC))
    until(lambda: "AttributeError" in caplog.text)
    with staffed.world.unit() as unit:
        unit.db.execute(update(DirectorySource).values(kind="openldap", settings=before))
    staffed.source.disable("user0")
    until(lambda: staffed.state("user0") == "disabled")


@pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
def test_a_watcher_whose_place_another_node_has_taken_ends(staffed: Company, scheduler: Scheduler) -> None:
    staffed.connect("hq", staffed.source, live=True)
    scheduler.tick(datetime.now(UTC))
    until(lambda: state(staffed).checked_at is not None and lease_of(staffed) is not None)
    with staffed.world.unit() as unit:
        unit.db.execute(update(Lease).where(Lease.name == "watch:hq").values(holder="another node", fence=99))
    staffed.source.disable("user0")
    until(lambda: not scheduler.watches("hq"))
    assert staffed.state("user0") == "active", "the other node reads it"


def lease_of(company: Company) -> Any:
    with company.world.database.read() as connection:
        return connection.execute(select(Lease.holder).where(Lease.name == "watch:hq")).scalar_one_or_none()


@LIVE
def test_what_a_look_has_read_is_applied_where_the_source_still_is_and_read_anew_elsewhere(staffed: Company) -> None:
    units = staffed.world.units
    with staffed.world.database.read() as connection:
        source = connection.execute(select(DirectorySource.__table__)).one()
    directory = open_directory(source.kind, source.settings, source.secret_ref)
    assert look(units, "hq", directory, ADMIN) == (True, None)
    staffed.source.disable("user2")
    is_nothing, seen = look(units, "hq", directory, ADMIN)
    assert not is_nothing
    staffed.source.disable("user3")
    assert run_on(units, "hq", ADMIN, seen).counts == {"user_disable": 1}
    assert staffed.states()["user3"] == "active", "the directory was not asked again"
    assert run_on(units, "hq", ADMIN, seen).counts == {"user_disable": 1}
    assert staffed.states()["user3"] == "disabled"
    directory.close()
