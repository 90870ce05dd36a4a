"""The worker: jobs do not wait for each other, one node runs each, a failing one goes on."""

from __future__ import annotations

import threading
from datetime import datetime

from identity.core.lease import acquire
from identity.core.unit import Units
from identity.jobs.worker import Job, work
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
