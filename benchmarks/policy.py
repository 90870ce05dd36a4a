"""Decisions in process: one core, prebuilt requests, random over the population, reasons included."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.figure import figure, rate
from policies import Action, Engine, Grant, Permission, Request, Resource, RuleSet, Scope, compile_condition
from policies.casbin_form import casbin_form, enforcer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = {"1k": (1_000, 100, 1_000), "10k": (10_000, 500, 10_000), "100k": (100_000, 1_000, 100_000)}


def build(size: str, *, mixed: bool) -> tuple[Engine, list[Request], RuleSet]:
    """An engine of this size (users, roles, rules; hierarchy of depth 4) and 20,000 requests for it."""
    users, roles, rules = SIZES[size]
    chance = random.Random(7)
    names = [f"app:r{n}" for n in range(roles)]
    edges = tuple((names[n], names[n + 1]) for n in range(roles - 1) if n % 4 != 3)
    permissions = tuple(_permission(chance, names, n, mixed) for n in range(rules))
    content = RuleSet(1, permissions, edges)
    engine = Engine(content)
    subjects = [
        engine.subject(f"u{n}", f"p{n}", grants=[_grant(chance, names, mixed) for _ in range(3)])
        for n in range(min(users, 20_000))
    ]
    requests = [
        Request(
            chance.choice(subjects),
            Action("read"),
            Resource(
                "app", f"t{(number := chance.randrange(rules)) % 20}", f"d{number % 50}/{number}", {"company": "c1"}
            ),
            {},
            NOW,
        )
        for _ in range(20_000)
    ]
    return engine, requests, content


def _permission(chance: random.Random, names: list[str], number: int, mixed: bool) -> Permission:
    pattern = f"d{number % 50}/{number}"
    effect: Any = "permit"
    if mixed and chance.random() < 0.3:
        pattern = chance.choice([f"d{number % 50}/**", f"*/{number}", f"d{number % 50}/{number}/**"])
    if mixed and chance.random() < 0.1:
        effect = "deny"
    return Permission(f"r{number}", chance.choice(names), "app", f"t{number % 20}", pattern, "read", effect)


def _grant(chance: random.Random, names: list[str], mixed: bool) -> Grant:
    if not mixed:
        return Grant(chance.choice(names))
    until = NOW + timedelta(days=1) if chance.random() < 0.3 else None
    return Grant(chance.choice(names), Scope(chance.choice([None, "c1", "c2"])), valid_until=until)


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


def versus_casbin() -> Iterator[dict[str, Any]]:
    """Our decisions against casbin's Enforcer on the same requests at 1,000 rules."""
    engine, requests, content = build("1k", mixed=False)
    asked = requests[:200]
    people = {request.subject.id: request.subject.grants for request in asked}
    theirs = enforcer(casbin_form(content, people.items()))

    def ours_act() -> int:
        for request in requests:
            engine.evaluate(request)
        return len(requests)

    def their_act() -> int:
        for request in asked:
            theirs.enforce(request.subject.id, "app", request.resource.type, request.resource.id, "read")
        return len(asked)

    ours, n = rate(ours_act)
    base, _ = rate(their_act, runs=1)
    yield figure("policy.vs.casbin", ours, "decisions/s", n, base)


FIGURES = {
    "policy.decide.10k.exact": lambda: decide("10k", mixed=False),
    "policy.decide.10k.mixed": lambda: decide("10k", mixed=True),
    "policy.decide.1k.mixed": lambda: decide("1k", mixed=True),
    "policy.decide.100k.mixed": lambda: decide("100k", mixed=True),
    "policy.load.100k": load,
    "policy.condition": condition,
    "policy.vs.casbin": versus_casbin,
}
