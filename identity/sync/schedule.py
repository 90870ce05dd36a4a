"""When which source runs by itself, each on a thread of its own: a slow directory holds up no other one."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta, tzinfo

from sqlalchemy import select

from identity.core.cron import has_passed
from identity.core.errors import Conflict, TesseraError, Unavailable
from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.directory.models import DirectorySource
from identity.sync.live import Watcher
from identity.sync.models import SyncState
from identity.sync.run import run_source

PATIENCE_MAX = timedelta(minutes=5)
RETRY = timedelta(minutes=1)
RETRY_MAX = timedelta(hours=1)
GRACE_S = 5.0

_log = logging.getLogger(__name__)


class Scheduler:
    """Starts what is due, and a watcher for each live source; `tick` is called once a second by the worker."""

    def __init__(self, units: Units, zone: tzinfo) -> None:
        self._units = units
        self._zone = zone
        self._running: dict[str, threading.Thread] = {}
        self._watchers: dict[str, Watcher] = {}
        self._impatient = threading.Event()

    def tick(self, now: datetime) -> None:
        """Start every enabled source whose time has come and that does not run here already."""
        with self._units.open(Actor.system("worker:sync"), write=False, now=now) as unit:
            sources = list(unit.db.execute(select(DirectorySource).where(DirectorySource.enabled)).scalars())
            due = {one.code: way for one in sources if (way := due_way(unit, one, self._zone))}
            live = [one.code for one in sources if one.live and not is_paused(unit, one)]
        for code, way in due.items():
            if not _is_alive(self._running.get(code)):
                thread = threading.Thread(target=self._run, args=(code, way), name=f"sync-{code}")
                self._running[code] = thread
                thread.start()
        for code in live:
            if not self.watches(code):
                self._watchers[code] = Watcher(self._units, code, self._go_on)
                self._watchers[code].start()

    def watches(self, code: str) -> bool:
        """Whether this node watches the source."""
        return _is_alive(self._watchers.get(code))

    def close(self) -> None:
        """Start nothing more, end the watchers, and wait for the runs under way. Those that take longer stop where they
        are after GRACE_S, between two stages or slices: the next run goes on from there."""
        for watcher in self._watchers.values():
            watcher.stop()
        threads = [*self._running.values(), *self._watchers.values()]
        until = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._impatient.set()
        for thread in threads:
            thread.join()

    def _go_on(self, *_: object) -> None:
        if self._impatient.is_set():
            raise Unavailable("The process was stopped.")

    def _run(self, code: str, way: str) -> None:
        try:
            run_source(self._units, code, Actor.system(f"sync:{code}"), mode=way, progress=self._go_on)
        except Conflict:
            return
        except TesseraError as error:
            _log.warning("sync of %s: %s", code, error)
        except Exception:  # noqa: BLE001  it is in the run's row, and the next tick must find the thread gone
            _log.exception("sync of %s failed", code)


def due_way(unit: Unit, source: DirectorySource, zone: tzinfo) -> str | None:
    """How the source is to run now: `check`, `apply`, or not at all.

    A source that fails is tried again later and later: by interval after twice the time each, at most five minutes; by
    cron after a minute and more, at most an hour. One that was paused waits for a person.
    """
    if is_paused(unit, source):
        return None
    state = unit.db.get(SyncState, source.id)
    if source.check_cron:
        since = state.compared_at if state and state.compared_at else source.created_at
        patient = state is not None and state.failures and not _rested(unit, state, RETRY)
        if has_passed(source.check_cron, since, unit.now, zone) and not patient:
            return "check"
    if source.cron:
        if state is not None and state.failures:
            return "apply" if _rested(unit, state, RETRY) else None
        since = state.checked_at if state and state.checked_at else source.created_at
        return "apply" if has_passed(source.cron, since, unit.now, zone) else None
    if source.interval_s is None:
        return None
    if state is None or state.checked_at is None:
        return "apply"
    interval = timedelta(seconds=source.interval_s)
    patience = min(interval * 2 ** min(state.failures, 10), max(interval, PATIENCE_MAX))
    return "apply" if unit.now - state.checked_at >= patience else None


def is_paused(unit: Unit, source: DirectorySource) -> bool:
    """Whether the source waits for a person."""
    state = unit.db.get(SyncState, source.id)
    return state is not None and state.paused is not None


def _rested(unit: Unit, state: SyncState, first: timedelta) -> bool:
    patience = min(first * 2 ** min(state.failures - 1, 10), RETRY_MAX)
    return state.checked_at is None or unit.now - state.checked_at >= patience


def _is_alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()
