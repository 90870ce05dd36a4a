"""Decisions over HTTP, each durable before its answer: 10,000 rules, sealer and finder running, wrk beside them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_high as median
from typing import Any

from benchmarks.figure import figure
from benchmarks.load import Run, batches, commits, deciding, hit, singles, warm
from benchmarks.served import RUNS, SECONDS


def single(kind: str) -> Iterator[dict[str, Any]]:
    """One evaluation a request: the median of the runs, its ratio to the same server's no-op route, and to the same
    handler on a Flask app in turns with it."""
    yield figure(f"calibration.commits.{kind}", commits(kind), "commits/s", 1)
    with deciding(kind, flask=True) as served:
        bodies = singles(served.sub)
        path = "/access/v1/evaluation"
        for address in (served.address, served.flask_address):
            warm(f"{address}{path}", bodies)
        noops, ours, theirs = [], [], []
        for _ in range(RUNS):
            noops.append(hit(f"{served.address}/healthz"))
            ours.append(hit(f"{served.address}{path}", bodies))
            theirs.append(hit(f"{served.flask_address}{path}", bodies))
        yield _figure(f"decide.single.{kind}", ours, median(noops).rate)
        flask = median(theirs)
        times = median(ours).rate / flask.rate
        yield figure(f"decide.single.vs_flask.{kind}", times, "times", RUNS, flask.rate, p99_ms=flask.p99)


def batch(kind: str, size: int = 100) -> Iterator[dict[str, Any]]:
    """Items a second in requests of a hundred; the index of what is decided at that rate is made later."""
    with deciding(kind, beside=()) as served:
        bodies = batches(served.sub, size)
        address = f"{served.address}/access/v1/evaluations"
        warm(address, bodies)
        runs = [hit(address, bodies) for _ in range(RUNS)]
        yield _figure(f"decide.batch{size}.{kind}", runs, None, size)


def _figure(name: str, runs: list[Run], baseline: float | None, size: int = 1) -> dict[str, Any]:
    middle = sorted(runs)[len(runs) // 2]
    return figure(
        name,
        middle.rate * size,
        "requests/s" if size == 1 else "items/s",
        round(sum(run.rate for run in runs) * SECONDS * size),
        baseline,
        p50_ms=middle.p50,
        p99_ms=middle.p99,
        max_ms=max(run.longest for run in runs),
    )


FIGURES = {
    "decide.single.sqlite": lambda: single("sqlite"),
    "decide.single.postgres": lambda: single("postgres"),
    "decide.batch100.postgres": lambda: batch("postgres"),
    "decide.batch100.sqlite": lambda: batch("sqlite"),
}
