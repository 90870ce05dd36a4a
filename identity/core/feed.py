"""The change feed's reader: keeps the caches of this process true, and knows how fresh they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import select

from identity.core.db import Database
from identity.core.errors import TesseraError, Unavailable
from identity.core.facts import ChangeFeed, Counter

POLL_S = 0.2
STALE_S = 1.0

_log = logging.getLogger(__name__)

Reload = Callable[[Sequence[str] | None], None]


class Feed:
    """Polls `change_feed` every 200 ms and calls each kind's subscribers with the changed ids (None = all).

    `confirm()` raises `Unavailable` when the last confirming query started more than 1 s ago, so that a process
    cut off from its database stops answering from memory.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscribers: list[tuple[frozenset[str], Reload]] = []
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._seq = -1
        self._confirmed = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, kinds: Sequence[str], reload: Reload) -> None:
        """Call `reload` for changes of these kinds; it runs on the feed's thread or on a committing one."""
        self._subscribers.append((frozenset(kinds), reload))

    def start(self) -> None:
        """Load everything once, then poll in the background; later calls do nothing."""
        if self._thread is not None:
            return
        with self._starting:
            self._start_once()

    def _start_once(self) -> None:
        if self._thread is None:
            self.follow()
            thread = threading.Thread(target=self._run, name="change-feed", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def is_used(self) -> bool:
        """Whether anything was loaded yet."""
        return self._seq >= 0

    def is_fresh(self) -> bool:
        """Whether `confirm` has nothing to ask."""
        return not self._stale()

    def confirm(self) -> None:
        """Raise `Unavailable` unless the caches were confirmed true at most a second ago.

        A process that was held up (a busy machine, a pause) asks at once, one thread for all, instead of refusing.
        """
        if self._stale():
            self._confirm_now()

    def _stale(self) -> bool:
        return time.monotonic() - self._confirmed > STALE_S

    def _confirm_now(self) -> None:
        if self._lock.acquire(timeout=POLL_S):
            try:
                if self._stale():
                    self._try(self._catch_up)
            finally:
                self._lock.release()
        if self._stale():
            raise Unavailable(
                "The service cannot confirm its policy now.",
                "change feed is stale",
                code="stale",
            )

    def catch_up(self) -> None:
        """Read and apply what was committed since the last look; raises `Unavailable` without a database."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        started = time.monotonic()
        with self._database.read() as connection:
            last = connection.execute(select(Counter.feed_seq)).scalar_one()
            rows = (
                connection.execute(
                    select(ChangeFeed.seq, ChangeFeed.kind, ChangeFeed.ids)
                    .where(ChangeFeed.seq > self._seq, ChangeFeed.seq <= last)
                    .order_by(ChangeFeed.seq)
                ).all()
                if 0 <= self._seq < last
                else []
            )
        if self._seq < 0 or len(rows) != max(last - self._seq, 0) or last < self._seq:
            self._reload_all()
        else:
            self._apply([(kind, ids) for _, kind, ids in rows])
        self._seq = last
        self._confirmed = started

    def _apply(self, changes: list[tuple[str, list[str]]]) -> None:
        for kinds, reload in self._subscribers:
            mine = [ids for kind, ids in changes if kind in kinds]
            if mine:
                everything = any(not ids for ids in mine) or len(kinds) > 1
                reload(None if everything else sorted({one for ids in mine for one in ids}))

    def _reload_all(self) -> None:
        for _, reload in self._subscribers:
            reload(None)

    def follow(self) -> None:
        """Catch up if that can be done now, as after a commit, which stands; a failure shows in `confirm()`."""
        self._try(self.catch_up)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except TesseraError as error:
            _log.warning("change feed: %s", error)
        except Exception:  # noqa: BLE001  the feed must outlive any fault; staleness is what answers 503
            self._seq = -1
            _log.exception("change feed: a cache could not be loaded")

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.follow()
