"""The fault scenarios with their full counts: each line is what is wrong afterwards, which must be nothing."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from sqlalchemy.engine import make_url

from benchmarks.figure import figure
from tests.faults import scenarios
from tests.faults.checker import Verdict
from tests.faults.site import Site
from tests.servers.cluster import Cluster
from tests.servers.scarce import ScarceDisk
from tests.servers.templates import Templates

# For a quick look whether a scenario still runs: BENCH_FAULTS=0.05 make bench ONLY=faults
SHARE = float(os.environ.get("BENCH_FAULTS", "1"))


def _count(full: int) -> int:
    return max(1, round(full * SHARE))


class _Place:
    """A folder with a prepared installation, on SQLite or on a cluster; removed when the context ends."""

    def __init__(self, cluster: Cluster | None) -> None:
        self._stack = ExitStack()
        self.cluster = self._stack.enter_context(cluster) if cluster else None
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tessera-faults-")))
        made = self.folder / "templates"
        made.mkdir()
        self.site = Site(Templates(made).copy(self.cluster, self.folder), self.folder)

    def __enter__(self) -> Self:
        self.site.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _line(name: str, verdict: Verdict, times: int, **more: Any) -> dict[str, Any]:
    """Faults found (0), with what clients were told; `n` is how often the fault befell the server."""
    return figure(
        f"faults.{name}",
        len(verdict.faults),
        "faults",
        times,
        done=sum(verdict.done.values()),
        refused=verdict.refused,
        broken=verdict.broken,
        promised=verdict.promised,
        kept=verdict.kept,
        gap=verdict.gap,
        found=verdict.faults[:5],
        **more,
    )


def _both(name: str, act: Callable[[Site, int], Verdict], full: int) -> Iterator[dict[str, Any]]:
    """Half of them on each database."""
    for kind, cluster in (("sqlite", None), ("postgres", Cluster())):
        with _Place(cluster) as place:
            times = _count(full // 2)
            yield _line(f"{name}.{kind}", act(place.site, times), times)


def kill() -> Iterator[dict[str, Any]]:
    """RF-15: kill -9 of a worker under load."""
    yield from _both("kill", scenarios.kill_workers, 200)


def stop() -> Iterator[dict[str, Any]]:
    """RF-44: SIGTERM of the server under load."""
    yield from _both("stop", scenarios.stop_gracefully, 40)


def restart() -> Iterator[dict[str, Any]]:
    """RF-01: crash and restart of the database; how long from its return to the next thing done."""
    with _Place(Cluster()) as place:
        times = _count(20)
        assert place.cluster is not None
        verdict, waits = scenarios.restart_database(place.site, place.cluster, times)
        yield _line("restart", verdict, times, median_s=round(statistics.median(waits), 2), max_s=round(max(waits), 2))


def terminate() -> Iterator[dict[str, Any]]:
    """RF-02: every connection ended by the server."""
    with _Place(Cluster()) as place:
        times = _count(200)
        assert place.cluster is not None
        yield _line("terminate", scenarios.terminate_backends(place.site, place.cluster, times), times)


def failover() -> Iterator[dict[str, Any]]:
    """RF-04: kill -9 of the primary, its synchronous standby takes over."""
    times, took, sum_ = _count(10), [], Verdict()
    for _ in range(times):
        with _Place(Cluster()) as place:
            primary, site = place.cluster, place.site
            assert primary is not None
            standby = primary.standby()
            try:
                name = make_url(site.database_url).database
                both = f"?host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}&target_session_attrs=read-write"
                site.database_url = f"postgresql+psycopg://postgres@/{name}{both}"
                there = f"postgresql+psycopg://postgres@127.0.0.1:{standby.port}/{name}"
                verdict, seconds = scenarios.fail_over(site, primary, standby, there)
            finally:
                standby.stop()
        sum_.add(verdict)
        took.append(seconds)
    yield _line("failover", sum_, times, median_s=round(statistics.median(took), 2), max_s=round(max(took), 2))


def connections() -> Iterator[dict[str, Any]]:
    """RF-08: 200 clients on a database with 20 connections."""
    with _Place(Cluster(max_connections="20")) as place:
        times = _count(200)
        assert place.cluster is not None
        yield _line("connections", scenarios.run_out_of_connections(place.site, place.cluster, times), times)


def read_only() -> Iterator[dict[str, Any]]:
    """RF-12: a database that takes no writes, and then does."""
    with _Place(Cluster()) as place:
        assert place.cluster is not None
        yield _line("read_only", scenarios.make_read_only(place.site, place.cluster), 1)


def disk_full() -> Iterator[dict[str, Any]]:
    """RF-13: the disk of an embedded installation fills up and is freed."""
    with _Place(None) as place, ScarceDisk(place.folder / "disk", megabytes=64) as disk:
        times = _count(20)
        site = scenarios.moved(place.site, disk, place.folder / "disk")
        yield _line("disk_full", scenarios.fill_disk(site, disk, times), times)


def disk_calls() -> Iterator[dict[str, Any]]:
    """RF-14: of the calls that write or sync every so-many-th fails; `n` is how many requests that refused."""
    with _Place(None) as place:
        times = _count(400)
        yield _line("disk_calls", scenarios.fail_calls(place.site, times), times)


FIGURES = {
    "faults.kill": kill,
    "faults.stop": stop,
    "faults.restart": restart,
    "faults.terminate": terminate,
    "faults.failover": failover,
    "faults.connections": connections,
    "faults.read_only": read_only,
    "faults.disk_full": disk_full,
    "faults.disk_calls": disk_calls,
}
