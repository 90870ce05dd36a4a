"""Random rule sets and requests of three sizes, the same at every run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from policies import Action, Engine, Grant, Permission, Request, Resource, RuleSet, Scope

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
