"""The worker: runs each job when it is due, on one node at a time, none behind another."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from identity.core.ending import end_when
from identity.core.errors import TesseraError
from identity.core.lease import Standing
from identity.core.record import Actor
from identity.core.unit import Units

LEASE_S = 20
STEP_S = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Run `run(now)` every `every_s` seconds. `exclusive` = on one node at a time, by a lease that the node keeps until
    it stops. `end` is called once when the worker stops, and waits for what the job has begun."""

    name: str
    every_s: float
    run: Callable[[datetime], object]
    exclusive: bool = True
    end: Callable[[], object] = lambda: None


def work(units: Units, jobs: Sequence[Job], stop: threading.Event) -> None:
    """Run the jobs until `stop` is set, each on a thread of its own: a slow sync holds up no logout.

    A failing job is logged and tried again when it is next due. Returns when all running ones have ended, which the
    long ones do at their next safe point (`core.ending`).
    """
    leases = Standing(units, Actor.system("worker"), f"{socket.gethostname()}:{os.getpid()}", LEASE_S)
    threads = [
        threading.Thread(target=_repeat, args=(job, leases, stop, number * STEP_S), name=f"job-{job.name}")
        for number, job in enumerate(jobs)
    ]
    ended = threading.Event()
    keeper = threading.Thread(target=leases.keep, args=(ended,), name="leases")
    for thread in (keeper, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    keeper.join()


def _repeat(job: Job, leases: Standing, stop: threading.Event, first_s: float) -> None:
    end_when(stop.is_set)
    # What runs seldom does not begin in the same instant: each would wait for the others' commits, a stop for all.
    stop.wait(min(first_s, job.every_s / 10))
    while not stop.is_set():
        started = time.monotonic()
        _run(job, leases)
        stop.wait(max(0.0, job.every_s - (time.monotonic() - started)))
    job.end()


def _run(job: Job, leases: Standing) -> None:
    try:
        if not job.exclusive or leases.take(f"job:{job.name}"):
            job.run(datetime.now(UTC))
    except TesseraError as error:
        _log.warning("job %s: %s", job.name, error)
    except Exception:  # noqa: BLE001  one failing job must not stop the others
        _log.exception("job %s failed", job.name)
