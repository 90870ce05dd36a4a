"""How far sealer and finder are behind while decisions are made at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import create_engine, func, select

from benchmarks.figure import figure
from benchmarks.load import OFFERED_SECONDS, Served, deciding, hit, singles, warm
from identity.audit.models import AuditFindProgress, AuditRecord, AuditSeal
from identity.core.db import Database, engine_options, prepare_engine
from identity.core.errors import TesseraError

OFFERED = 10_000
LAST_S = 10.0
SUSTAINED = 0.9
CATCH_UP_S = 60.0


def behind(kind: str) -> Iterator[dict[str, Any]]:
    """With 10,000 decisions a second offered for a minute: how old at most the newest sealed and indexed state was
    in its last ten seconds, and how long both took to catch up afterwards.

    `reached` is the rate that was served. A server that cannot serve what is offered is `saturated`: all processors are
    taken, and the figure says how far behind its sealer and finder then fall, not how far at that rate. So it is
    measured again at nine tenths of what was reached.
    """
    with deciding(kind) as served:
        warm(f"{served.address}/access/v1/evaluation", singles(served.sub))
        reached = yield from _at_rate(served, kind, OFFERED, "")
        if reached < 0.98 * OFFERED:
            yield from _at_rate(served, kind, round(SUSTAINED * reached), ".sustained")


def _at_rate(served: Served, kind: str, rate: int, name: str) -> Generator[dict[str, Any], None, float]:
    """The figures of one run; returns the rate that was served."""
    watch = _Watch(served, kind)
    watch.start()
    run = hit(f"{served.address}/access/v1/evaluation", singles(served.sub), seconds=OFFERED_SECONDS, rate=rate)
    caught_up = watch.stop()
    more = {
        "offered": rate,
        "reached": round(run.rate),
        "saturated": run.rate < 0.98 * rate,
        "p99_ms": run.p99,
        "max_ms": run.longest,
        "caught_up_s": caught_up,
    }
    count = round(run.rate * OFFERED_SECONDS)
    yield figure(f"audit.seal.backlog{name}.{kind}", watch.worst(0), "s", count, **more)
    yield figure(f"audit.find.lag{name}.{kind}", watch.worst(1), "s", count, **more)
    return run.rate


class _Watch:
    """Looks four times a second how old the newest sealed and the newest indexed state is: of none, as old as the
    watch itself."""

    def __init__(self, served: Served, kind: str) -> None:
        url = served.env["DATABASE_URL"] if kind == "postgres" else f"sqlite:///{served.env['TESSERA_VAR']}/tessera.db"
        self._database: Database = prepare_engine(create_engine(url, **engine_options(url)))
        self._begin = datetime.now(UTC)
        self._seen: list[tuple[float, float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> float:
        """End the watch, then wait until what was recorded so far is sealed and indexed; the seconds of that wait.

        Raises `RuntimeError` when the database was not seen all the time, or they do not catch up.
        """
        self._end.set()
        self._thread.join()
        ended, asked = datetime.now(UTC), time.monotonic()
        if not self._seen or asked - self._seen[-1][0] > LAST_S / 2:
            raise RuntimeError("the database could not be watched")
        recorded = self._records()
        while self._states()[1] < ended or self._sealed() < recorded:
            if time.monotonic() - asked > CATCH_UP_S:
                raise RuntimeError(f"sealer and finder do not catch up: {recorded} records, {self._sealed()} sealed")
            time.sleep(0.05)
        self._database.engine.dispose()
        return round(time.monotonic() - asked, 2)

    def worst(self, number: int) -> float:
        """Of the sealer (0) or the finder (1), within the last seconds, in seconds."""
        last = self._seen[-1][0]
        return max(one[number + 1] for one in self._seen if one[0] >= last - LAST_S)

    def _run(self) -> None:
        while not self._end.wait(0.25):
            with suppress(TesseraError):  # seen again the next time, or `stop` tells
                sealed, found = self._states()
                now = datetime.now(UTC)
                self._seen.append((time.monotonic(), (now - sealed).total_seconds(), (now - found).total_seconds()))

    def _records(self) -> int:
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(AuditRecord)).scalar_one()

    def _sealed(self) -> int:
        with self._database.read() as connection:
            return connection.execute(select(AuditSeal.size)).scalar_one()

    def _states(self) -> tuple[datetime, datetime]:
        with self._database.read() as connection:
            sealed = connection.execute(select(AuditSeal.sealed_to)).scalar_one_or_none()
            found = connection.execute(select(AuditFindProgress.complete_to)).scalar_one_or_none()
        return sealed or self._begin, found or self._begin


FIGURES = {
    "audit.seal.backlog.postgres": lambda: behind("postgres"),
    "audit.seal.backlog.sqlite": lambda: behind("sqlite"),
}
