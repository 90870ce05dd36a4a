"""A live source: its directory is asked several times a second how far it is, and read as soon as that changes.

What changed there often concerns nothing of ours (a sign-in's time, a photo): such a look leaves no run.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import Any

from identity.core.errors import Conflict, Stale, TesseraError, Unavailable
from identity.core.lease import Held, acquire, kept, release, renew
from identity.core.record import Actor
from identity.core.unit import Units
from identity.directory.factory import open_directory
from identity.directory.models import DirectorySource
from identity.directory.settings import DirectorySettings
from identity.directory.transform import Transformer
from identity.sync.apply import Progress
from identity.sync.known import load_known, scope_of
from identity.sync.models import SyncState
from identity.sync.plan_users import make
from identity.sync.run import Seen, run_on, run_source
from identity.sync.work import cursor_of, find_source, fingerprint, state_of

ASK_S = 0.25
LOOK_S = 1.0
NOTE_S = 30.0
# A directory that cannot say how far it is.
MARKLESS_S = 60.0
REST_MAX_S = 300.0
WATCH_LEASE_S = 30

_log = logging.getLogger(__name__)


class Watcher(threading.Thread):
    """Watches one live source until it is stopped, paused, no longer live, or changed; on one node at a time."""

    def __init__(self, units: Units, code: str, progress: Progress | None = None) -> None:
        super().__init__(name=f"watch-{code}", daemon=True)
        self._units = units
        self._code = code
        self._progress = progress
        self._actor = Actor.system(f"sync:{code}")
        self._ended = threading.Event()
        self._directory: Any = None
        self._made_of = ""
        self._failures = 0
        self._seen: Any = None
        self._stands: Any = None
        self._delta = False
        self._looked = self._noted = self._rests_until = self._whole_after = float("-inf")

    def stop(self) -> None:
        """End soon; what runs is finished first."""
        self._ended.set()

    def run(self) -> None:
        holder = f"{socket.gethostname()}:{os.getpid()}:{self._code}"
        try:
            with self._units.open(self._actor) as unit:
                held = acquire(unit.db, f"watch:{self._code}", holder, unit.now, WATCH_LEASE_S)
        except TesseraError:
            return
        try:
            with kept(self._units, self._actor, held, WATCH_LEASE_S):
                self._watch(held)
        except Exception:  # noqa: BLE001  the lease could not be given back; it ends by itself
            _log.exception("watching %s ended", self._code)
        finally:
            self._close()

    def _watch(self, held: Held) -> None:
        """Look and read until there is nothing to watch or another node does it; every fault is only a reason to
        rest."""
        wait: float | None = 0.0
        while wait is not None and not self._ended.wait(wait):
            try:
                wait = self._turn(held)
            except Stale:
                _log.warning("%s is watched by another process", self._code)
                return
            except Conflict:
                wait = LOOK_S
            except TesseraError as error:
                _log.warning("watching %s: %s", self._code, error)
                wait = self._rest()
            except Exception:  # noqa: BLE001  whatever it is, the next try may not come at once
                _log.exception("watching %s met a fault", self._code)
                wait = self._rest()

    def _turn(self, held: Held) -> float | None:
        """Ask how far the directory is, and read it where that is due; how long to wait for the next turn, or None when
        there is nothing to watch any more."""
        due = False
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            wanted = self._look()
            if wanted is None:
                return None
            due = wanted
        if time.monotonic() < self._rests_until:
            return LOOK_S
        mark = self._mark()
        if not due and self._seen is not None and mark == self._seen:
            if time.monotonic() - self._noted >= NOTE_S:
                self._noted = time.monotonic()
                self._note(held)
            return ASK_S
        if not self._bring_up_to_date(held):
            return self._rest()
        self._seen = mark
        return ASK_S if mark else MARKLESS_S

    def _look(self) -> bool | None:
        """Whether everything must be read now; None when there is nothing to watch any more. New settings, and a run by
        somebody else that got through, end a rest."""
        with self._units.open(self._actor, write=False) as unit:
            source = find_source(unit, self._code)
            state = unit.db.get(SyncState, source.id)
            paused = state is not None and state.paused is not None
            if paused or not (source.enabled and source.live):
                return None
            stands = fingerprint(source), state.success_at if state is not None else None
            if stands != self._stands:
                self._stands, self._rests_until = stands, float("-inf")
            if time.monotonic() < self._rests_until:
                return False
            if self._made_of != stands[0]:
                self._close()
                self._directory = open_directory(source.kind, source.settings, source.secret_ref)
                self._made_of = stands[0]
            settings = DirectorySettings.load(source.kind, source.settings)
            self._delta = time.monotonic() < self._whole_after
            return cursor_of(unit, source, settings, delta=self._delta) is None

    def _mark(self) -> Any:
        """How far the directory is; one that does not say it leaves a failed run, where people see why."""
        try:
            return self._directory.mark()
        except TesseraError:
            run_source(self._units, self._code, self._actor, progress=self._progress)
            raise

    def _bring_up_to_date(self, held: Held) -> bool:
        """Read and apply what is new; false when that failed, or its plan waits for a person. When a change could not
        be made, only reading everything again waits: what else changes is still read at once."""
        with self._units.open(self._actor) as unit:
            renew(unit.db, held, unit.now, WATCH_LEASE_S)
        is_nothing, seen = self._look_there()
        if is_nothing:
            failed = 0
        else:
            full = False if self._delta else None
            done = run_on(self._units, self._code, self._actor, seen, full=full, progress=self._progress)
            if done.state != "applied":
                return False
            failed = done.failed
        if failed:
            self._whole_after, self._delta = time.monotonic() + self._patience(), True
        elif not self._delta:
            self._failures = 0
        return True

    def _look_there(self) -> tuple[bool, Seen | None]:
        try:
            return look(self._units, self._code, self._directory, self._actor, delta=self._delta)
        except Unavailable as error:
            # The run meets it as well, and people see it there.
            _log.warning("watching %s: %s", self._code, error)
            return False, None

    def _note(self, held: Held) -> None:
        """The source is still true: nothing has changed since it was read."""
        with self._units.open(self._actor) as unit:
            renew(unit.db, held, unit.now, WATCH_LEASE_S)
            state = state_of(unit, find_source(unit, self._code).id)
            if not state.failures:
                state.checked_at = state.success_at = unit.now

    def _rest(self) -> float:
        if time.monotonic() >= self._rests_until:
            self._rests_until = time.monotonic() + self._patience()
            # Also a new password of our account is read again.
            self._made_of = ""
        return LOOK_S

    def _patience(self) -> float:
        """How long to wait after one failure more: twice as long each time."""
        self._failures += 1
        return min(2.0 ** min(self._failures, 10), REST_MAX_S)

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
        self._directory = None


def look(units: Units, code: str, directory: Any, actor: Actor, *, delta: bool = False) -> tuple[bool, Seen | None]:
    """Whether what changed in the directory changes nothing here, and what was read of it; where it changes nothing,
    only how far it was read is written down.

    False whenever a run must say more: after a failure, when everything is due (unless `delta`), or for any change.
    """
    with units.open(actor, write=False) as unit:
        source: DirectorySource = find_source(unit, code)
        transformer = Transformer(DirectorySettings.load(source.kind, source.settings))
        settings = transformer.settings
        state = unit.db.get(SyncState, source.id)
        cursor = cursor_of(unit, source, settings, delta=delta)
        if cursor is None or state is None or state.failures:
            return False, None
    reading = transformer.apply(directory.read(cursor))
    if reading.complete or reading.present is not None:
        return False, Seen(cursor, reading)
    with units.open(actor, write=False) as unit:
        known = load_known(unit.db.connection(), source.id, scope_of(reading, settings))
    if make(reading, known, settings).changes:
        return False, Seen(cursor, reading)
    with units.open(actor) as unit:
        held = acquire(unit.db, f"sync:{code}", f"watch:{code}", unit.now, WATCH_LEASE_S)
        state = state_of(unit, source.id)
        if state.cursor == cursor:
            state.cursor, state.checked_at, state.success_at = dict(reading.cursor), unit.now, unit.now
        release(unit.db, held, unit.now)
    return True, None
