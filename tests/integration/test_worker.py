"""The worker: jobs do not wait for each other, one node runs each, a failing one goes on."""

from __future__ import annotations

import contextvars
import threading
from datetime import datetime

from sqlalchemy import select, update

from identity.access import checks
from identity.access.decide import Access
from identity.core.ending import end_when
from identity.core.lease import Lease, Standing, acquire
from identity.core.record import Actor
from identity.core.unit import Units
from identity.events.deliver import Composers, deliver_due
from identity.events.models import OutboxMessage
from identity.events.outbox import send
from identity.jobs.worker import Job, work
from identity.roles.models_drafts import PolicyCheck
from identity.roles.service_policy import version_in_force
from tests.world import World


def run_until(world: World, jobs: list[Job], done: threading.Event) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(world.things[Units], jobs, stop))
    thread.start()
    assert done.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_slow_job_holds_up_no_other(world: World) -> None:
    release, done = threading.Event(), threading.Event()
    runs: list[datetime] = []

    def quick(now: datetime) -> None:
        runs.append(now)
        if len(runs) == 3:
            release.set()

    def slow(_: datetime) -> None:
        assert release.wait(30)
        done.set()

    run_until(world, [Job("slow", 60, slow), Job("quick", 0.01, quick)], done)


def test_a_failing_job_is_run_again(world: World) -> None:
    done = threading.Event()
    calls: list[datetime] = []

    def fails(now: datetime) -> None:
        calls.append(now)
        if len(calls) == 2:
            done.set()
        raise RuntimeError("on purpose")

    run_until(world, [Job("fails", 0.01, fails)], done)


def test_a_job_of_another_node_is_left_alone(world: World) -> None:
    with world.unit() as unit:
        acquire(unit.db, "job:taken", "other-node", unit.now, 600)
    ran, done = [], threading.Event()
    run_until(world, [Job("taken", 0.01, ran.append), Job("free", 0.01, lambda _: done.set())], done)
    assert ran == []


def lease_of(world: World, name: str) -> tuple[int, bool]:
    """Its fence, and whether it is held now."""
    with world.unit() as unit:
        row = unit.db.get_one(Lease, name)
        return row.fence, row.expires_at > unit.now


def test_a_job_keeps_its_lease_from_run_to_run_and_gives_it_back_at_the_end(world: World) -> None:
    done, runs, seen = threading.Event(), [], set()

    def run(now: datetime) -> None:
        runs.append(now)
        seen.add(lease_of(world, "job:often"))
        if len(runs) == 3:
            done.set()

    run_until(world, [Job("often", 0.01, run)], done)
    assert seen == {(1, True)}
    assert lease_of(world, "job:often") == (1, False)


def test_leases_are_renewed_together_and_one_that_another_took_is_lost(world: World) -> None:
    one, other = (Standing(world.things[Units], Actor.system("test"), name, 600) for name in ("one", "other"))
    assert one.take("mine")
    assert one.take("gone")
    with world.unit() as unit:
        unit.db.execute(update(Lease).values(expires_at=unit.now))
    assert other.take("gone")
    one.renew()
    assert one.take("mine")
    assert lease_of(world, "mine") == (1, True), "it was not taken anew"
    assert not one.take("gone")
    assert not other.take("mine")


def test_a_lease_that_may_have_ended_is_taken_again(world: World) -> None:
    short = Standing(world.things[Units], Actor.system("test"), "one", 0)
    assert short.take("mine")
    assert short.take("mine")
    assert lease_of(world, "mine") == (2, False)


class StoppedMeanwhile(threading.Event):
    """Is set once somebody has looked."""

    def is_set(self) -> bool:
        before = super().is_set()
        self.set()
        return before


def test_a_job_that_waits_for_its_turn_when_the_worker_stops_does_not_begin(world: World) -> None:
    ran: list[datetime] = []
    work(world.things[Units], [Job("waits", 60, ran.append)], StoppedMeanwhile())
    assert ran == []
    with world.database.read() as connection:
        assert connection.execute(select(Lease.name).where(Lease.name == "job:waits")).first() is None


def test_what_takes_long_ends_at_its_next_safe_point_and_goes_on_later(world: World) -> None:
    with world.unit() as unit:
        send(unit, "logout", "http://127.0.0.1:9/nobody", {}, "key")
        check = checks.ask(unit, "replay", 0, version_in_force(unit) or 0, 1)
        now = unit.now
    arguments = world.units, world.database, world.things[Access]

    def stopped() -> None:
        end_when(lambda: True)
        assert deliver_due(world.units, now, Composers()) == 0
        checks.carry_out_waiting(*arguments, now)

    contextvars.copy_context().run(stopped)
    with world.unit() as unit:
        message = unit.db.execute(select(OutboxMessage)).scalar_one()
        assert (message.state, message.attempts) == ("waiting", 0)
        assert unit.db.get_one(PolicyCheck, check.id).state == "queued"
    checks.carry_out_waiting(*arguments, now)
    with world.unit() as unit:
        assert unit.db.get_one(PolicyCheck, check.id).state == "done"
