"""The worker: runs each job when it is due, on one node at a time."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from identity.core.errors import Conflict, TesseraError
from identity.core.lease import acquire, release
from identity.core.record import Actor
from identity.core.unit import Units

LEASE_S = 60
TICK_S = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Run `run(now)` every `every_s` seconds. `exclusive` = on one node at a time, by a lease."""

    name: str
    every_s: float
    run: Callable[[datetime], object]
    exclusive: bool = True


def work(units: Units, jobs: Sequence[Job], stop: threading.Event) -> None:
    """Run the jobs until `stop` is set; a failing job is logged and tried again when it is next due."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    due = dict.fromkeys((job.name for job in jobs), 0.0)
    while not stop.wait(TICK_S):
        for job in jobs:
            if time.monotonic() >= due[job.name] and not stop.is_set():
                due[job.name] = time.monotonic() + job.every_s
                _run(units, job, holder)


def _run(units: Units, job: Job, holder: str) -> None:
    try:
        if not job.exclusive:
            job.run(datetime.now(UTC))
            return
        actor = Actor.system(f"worker:{job.name}")
        with units.open(actor) as unit:
            held = acquire(unit.db, f"job:{job.name}", holder, unit.now, LEASE_S)
        try:
            job.run(datetime.now(UTC))
        finally:
            with units.open(actor) as unit:
                release(unit.db, held, unit.now)
    except Conflict:
        return
    except TesseraError as error:
        _log.warning("job %s: %s", job.name, error)
    except Exception:  # noqa: BLE001  one failing job must not stop the others
        _log.exception("job %s failed", job.name)
