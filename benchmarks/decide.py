"""Decisions over HTTP: one AuthZEN evaluation a request, durable before its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.figure import figure
from benchmarks.served import RUNS, SECONDS, SECRETS, basic, served, wrk


def single(kind: str) -> Iterator[dict[str, Any]]:
    """The median of the runs, its ratio to the same server's no-op route."""
    with served(kind) as instance:
        body = json.dumps(
            {
                "subject": {"type": "user", "id": instance.sub},
                "action": {"name": "read"},
                "resource": {"type": "claim", "id": "BX-1", "properties": {"company": "XH01"}},
            }
        )
        headers = {
            "Content-Type": "application/json",
            "Authorization": basic("expense", SECRETS["EXPENSE_PDP_SECRET"]),
        }
        noop = wrk(f"{instance.address}/healthz")[0]
        runs = sorted(wrk(f"{instance.address}/access/v1/evaluation", body, headers) for _ in range(RUNS))
        value, p99, _ = runs[len(runs) // 2]
        n = round(sum(run[0] for run in runs) * SECONDS)
        yield figure(
            f"decide.single.{kind}", value, "requests/s", n, noop, p99_ms=p99, max_ms=max(run[2] for run in runs)
        )


FIGURES = {
    "decide.single.sqlite": lambda: single("sqlite"),
    "decide.single.postgres": lambda: single("postgres"),
}
