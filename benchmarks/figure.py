"""The form of a figure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def figure(name: str, value: float, unit: str, n: int, baseline: float | None = None, **more: Any) -> dict[str, Any]:
    """A figure; its ratio is to `baseline`, measured in the same run."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "baseline": round(baseline, 3) if baseline else None,
        "ratio": round(value / baseline, 4) if baseline else None,
        "n": n,
        **more,
    }


def rate(act: Callable[[], int], runs: int = 5) -> tuple[float, int]:
    """Things per second, the median of the runs; `act` returns how many it did."""
    rates = []
    total = 0
    for _ in range(runs):
        started = time.perf_counter()
        done = act()
        rates.append(done / (time.perf_counter() - started))
        total += done
    return statistics.median(rates), total
