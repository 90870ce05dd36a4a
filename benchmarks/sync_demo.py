"""Directory sync by the command line, the process's start included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.figure import figure
from benchmarks.served import flask, prepared


def first() -> Iterator[dict[str, Any]]:
    """Seconds for the first sync of 300 people; its ratio to a sync that finds nothing to change."""
    with prepared() as env:
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            flask(env, "sync", "hq")
            seconds.append(time.perf_counter() - started)
        yield figure("sync.300", seconds[0], "s", 1, seconds[1])


FIGURES = {"sync.300": first}
