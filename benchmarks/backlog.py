"""How far sealer and finder are behind while decisions are made at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import create_engine, select

from benchmarks.figure import figure
from benchmarks.load import OFFERED_SECONDS, Served, deciding, hit, singles, warm
from identity.audit.models import AuditFindProgress, AuditSeal
from identity.core.db import Database, engine_options, prepare_engine

OFFERED = 10_000
LAST_S = 10.0


def behind(kind: str) -> Iterator[dict[str, Any]]:
    """With 10,000 decisions a second offered for a minute: how old at most the newest sealed and indexed state was
    in its last ten seconds. `reached` is the rate that was served."""
    with deciding(kind) as served:
        address, bodies = f"{served.address}/access/v1/evaluation", singles(served.sub)
        warm(address, bodies)
        watch = _Watch(served, kind)
        watch.start()
        run = hit(address, bodies, seconds=OFFERED_SECONDS, rate=OFFERED)
        watch.stop()
        count = round(run.rate * OFFERED_SECONDS)
        more = {"offered": OFFERED, "reached": round(run.rate), "p99_ms": run.p99, "max_ms": run.longest}
        yield figure(f"audit.seal.backlog.{kind}", watch.worst(0), "s", count, **more)
        yield figure(f"audit.find.lag.{kind}", watch.worst(1), "s", count, **more)


class _Watch:
    """Looks four times a second how old the newest sealed and the newest indexed state is."""

    def __init__(self, served: Served, kind: str) -> None:
        url = served.env["DATABASE_URL"] if kind == "postgres" else f"sqlite:///{served.env['TESSERA_VAR']}/tessera.db"
        self._database: Database = prepare_engine(create_engine(url, **engine_options(url)))
        self._seen: list[tuple[float, float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        self._database.engine.dispose()

    def worst(self, number: int) -> float:
        """Of the sealer (0) or the finder (1), within the last seconds, in seconds."""
        last = self._seen[-1][0]
        return max(one[number + 1] for one in self._seen if one[0] >= last - LAST_S)

    def _run(self) -> None:
        while not self._end.wait(0.25):
            with self._database.read() as connection:
                now = datetime.now(UTC)
                sealed = connection.execute(select(AuditSeal.sealed_to)).scalar_one()
                found = connection.execute(select(AuditFindProgress.complete_to)).scalar_one()
            ages = [(now - one).total_seconds() if one is not None else 0.0 for one in (sealed, found)]
            self._seen.append((time.monotonic(), ages[0], ages[1]))


FIGURES = {
    "audit.seal.backlog.postgres": lambda: behind("postgres"),
    "audit.seal.backlog.sqlite": lambda: behind("sqlite"),
}
