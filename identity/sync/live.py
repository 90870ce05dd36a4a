"""A live source: its directory is asked several times a second how far it is, and read as soon as that changes.

What changed there often concerns nothing of ours (a sign-in's time, a photo): such a look leaves no run.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from identity.core.errors import Conflict, TesseraError
from identity.core.lease import acquire, kept, release
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
from identity.sync.run import run_source
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
                self._watch()
        except Exception:  # noqa: BLE001  the next tick starts another watcher
            _log.exception("watching %s failed", self._code)
        finally:
            self._close()

    def _watch(self) -> None:
        seen: Any = None
        looked = noted = float("-inf")
        wait = 0.0
        while not self._ended.wait(wait):
            wait = ASK_S
            try:
                due = False
                if time.monotonic() - looked >= LOOK_S:
                    looked = time.monotonic()
                    wanted = self._look()
                    if wanted is None:
                        return
                    due = wanted
                mark = self._directory.mark()
                if not due and seen is not None and mark == seen:
                    if time.monotonic() - noted >= NOTE_S:
                        noted = time.monotonic()
                        self._note()
                    continue
                if self._bring_up_to_date():
                    seen, self._failures = mark, 0
                    wait = ASK_S if mark else MARKLESS_S
                else:
                    wait = self._rest()
            except Conflict:
                wait = LOOK_S
            except TesseraError as error:
                _log.warning("watching %s: %s", self._code, error)
                with suppress(Conflict):
                    run_source(self._units, self._code, self._actor, progress=self._progress)
                wait = self._rest()

    def _look(self) -> bool | None:
        """Whether everything must be read; None when there is nothing to watch any more."""
        with self._units.open(self._actor, write=False) as unit:
            source = find_source(unit, self._code)
            state = unit.db.get(SyncState, source.id)
            paused = state is not None and state.paused is not None
            if paused or not (source.enabled and source.live):
                return None
            if self._made_of != fingerprint(source):
                self._close()
                self._directory = open_directory(source.kind, source.settings, source.secret_ref)
                self._made_of = fingerprint(source)
            settings = DirectorySettings.load(source.kind, source.settings)
            return cursor_of(unit, source, settings) is None

    def _bring_up_to_date(self) -> bool:
        if nothing_new(self._units, self._code, self._directory, self._actor):
            return True
        return run_source(self._units, self._code, self._actor, progress=self._progress).state != "failed"

    def _note(self) -> None:
        """The source is still true: nothing has changed since it was read."""
        with self._units.open(self._actor) as unit:
            state = state_of(unit, find_source(unit, self._code).id)
            if not state.failures:
                state.checked_at = state.success_at = unit.now

    def _rest(self) -> float:
        self._failures += 1
        # Also a new password of our account is read again.
        self._made_of = ""
        return min(2.0 ** min(self._failures, 10), REST_MAX_S)

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
        self._directory = None


def nothing_new(units: Units, code: str, directory: Any, actor: Actor) -> bool:
    """Whether what changed in the directory changes nothing here; then only how far it was read is written down.

    False whenever a run must say more: after a failure, when everything is due, or for any change.
    """
    with units.open(actor, write=False) as unit:
        source: DirectorySource = find_source(unit, code)
        transformer = Transformer(DirectorySettings.load(source.kind, source.settings))
        settings = transformer.settings
        state = unit.db.get(SyncState, source.id)
        cursor = cursor_of(unit, source, settings)
        if cursor is None or state is None or state.failures:
            return False
    reading = transformer.apply(directory.read(cursor))
    if reading.complete or reading.present is not None:
        return False
    with units.open(actor, write=False) as unit:
        known = load_known(unit.db.connection(), source.id, scope_of(reading, settings))
    if make(reading, known, settings).changes:
        return False
    with units.open(actor) as unit:
        held = acquire(unit.db, f"sync:{code}", f"watch:{code}", unit.now, WATCH_LEASE_S)
        state = state_of(unit, source.id)
        if state.cursor == cursor:
            state.cursor, state.checked_at, state.success_at = dict(reading.cursor), unit.now, unit.now
        release(unit.db, held, unit.now)
    return True
