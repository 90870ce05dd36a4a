"""Decisions in process: one core, prebuilt requests, random over the population, reasons included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import freshness, rivals, snapshot
from benchmarks.figure import figure, rate
from benchmarks.rules import build
from policies import Engine, compile_condition


def decide(size: str, *, mixed: bool) -> Iterator[dict[str, Any]]:
    """Decisions a second."""
    engine, requests, _ = build(size, mixed=mixed)
    evaluate = engine.evaluate

    def act() -> int:
        for request in requests:
            evaluate(request)
        return len(requests)

    value, n = rate(act)
    yield figure(f"policy.decide.{size}.{'mixed' if mixed else 'exact'}", value, "decisions/s", n)


def load() -> Iterator[dict[str, Any]]:
    """Seconds to build an engine of 100,000 rules."""
    content = build("100k", mixed=True)[2]
    started = time.perf_counter()
    Engine(content)
    yield figure("policy.load.100k", time.perf_counter() - started, "s", 1)


def condition() -> Iterator[dict[str, Any]]:
    """Microseconds for a condition."""
    compiled = compile_condition("resource.properties.company == subject.properties.company && context.hour < 20")
    values = {
        "subject": {"id": "u", "properties": {"company": "c1"}},
        "resource": {"type": "t", "id": "1", "properties": {"company": "c1"}},
        "action": {"name": "read", "properties": {}},
        "context": {"hour": 9},
    }

    def act() -> int:
        for _ in range(10_000):
            compiled.holds(values)
        return 10_000

    value, n = rate(act)
    yield figure("policy.condition", 1e6 / value, "µs", n)


FIGURES = {
    "policy.decide.10k.exact": lambda: decide("10k", mixed=False),
    "policy.decide.10k.mixed": lambda: decide("10k", mixed=True),
    "policy.decide.1k.mixed": lambda: decide("1k", mixed=True),
    "policy.decide.100k.mixed": lambda: decide("100k", mixed=True),
    "policy.load.100k": load,
    "policy.condition": condition,
    **snapshot.FIGURES,
    **freshness.FIGURES,
    **rivals.FIGURES,
}
