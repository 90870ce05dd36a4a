"""The snapshot of a large company: what a change costs, how much memory it takes, how fast it is searched."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine

from benchmarks.figure import figure
from identity.access.decide import AccessRequest
from identity.access.search import Search, find
from identity.access.snapshot import Snapshot, assemble, with_users
from identity.access.subject import Identity
from identity.apps.registry import App
from identity.core.secrets import new_id
from identity.roles.inputs import InheritanceInput, MappingInput, PermissionInput, RuleSetInput
from identity.roles.mapping import AssignmentFact, EmploymentFact, MappingWorld, UserFacts
from identity.roles.models import ObjectAct
from identity.roles.rules import mapping_rules
from policies import ANYWHERE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USERS, ROLES, RULES = 100_000, 1_000, 10_000
GROUPS = [f"g{n}" for n in range(ROLES)]


def company() -> Snapshot:
    """100,000 users in 1,000 groups that are mapped to 1,000 roles with 10,000 rules."""
    chance = random.Random(5)
    roles = [f"app:r{n}" for n in range(ROLES)]
    content = RuleSetInput(
        permissions=tuple(
            PermissionInput(role=chance.choice(roles), application="app", type="t", pattern=f"d/{n}", action="read")
            for n in range(RULES)
        ),
        inheritance=tuple(
            InheritanceInput(senior=roles[n], junior=roles[n + 1]) for n in range(ROLES - 1) if n % 4 != 3
        ),
        mappings=tuple(MappingInput(source_kind="group", source=GROUPS[n], role=role) for n, role in enumerate(roles)),
    )
    org = {f"U{n}": (f"U{n}", f"C{n % 10}") for n in range(200)}
    world = MappingWorld({(row.source_kind, row.source): (row,) for row in mapping_rules(content)}, {}, {}, org=org)
    identities = {}
    for number in range(USERS):
        one = _identity(chance, org, number)
        identities[one.id] = one
    return assemble(1, 1, content, org, world, identities)


def _identity(chance: random.Random, org: dict[str, tuple[str, ...]], number: int) -> Identity:
    user_id, person_id = new_id(), new_id()
    unit = f"U{chance.randrange(200)}"
    job = EmploymentFact(str(number), org[unit][1], unit, org[unit], "clerk", True, None, None)
    groups = tuple(chance.choice(GROUPS) for _ in range(3))
    attributes = {"login": f"u{number}", "company": job.company, "org_unit": unit, "position": "clerk"}
    facts = UserFacts(user_id, person_id, groups, (job,), attributes)
    return Identity(user_id, str(new_id()), person_id, f"u{number}", "active", None, facts)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _grown(answer: Any) -> None:
    gc.collect()
    before = _resident()
    snapshot = company()
    gc.collect()
    answer.put((_resident() - before, len(snapshot.users)))


def memory() -> Iterator[dict[str, Any]]:
    """Megabytes that a process grows by, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_grown, args=(answer,))
    process.start()
    grown, users = answer.get(timeout=300)
    process.join()
    yield figure("policy.memory", grown / 1e6, "MB", 1, users=users)


def change() -> Iterator[dict[str, Any]]:
    """Milliseconds until a changed assignment is in the snapshot, the rare folds among them."""
    snapshot = company()
    ids = list(snapshot.users)
    chance, turns, worst = random.Random(6), 3_000, 0.0
    started = time.perf_counter()
    for turn in range(turns):
        user_id = chance.choice(ids)
        fact = AssignmentFact(str(turn), f"app:r{turn % ROLES}", ANYWHERE, None, None, None)
        begun = time.perf_counter()
        identities = {user_id: snapshot.users[user_id].identity}
        snapshot = with_users(snapshot, turn, identities, {("user", str(user_id)): (fact,)}, {})
        worst = max(worst, time.perf_counter() - begun)
    took = (time.perf_counter() - started) / turns
    yield figure("policy.change", took * 1e3, "ms", turns, max_ms=round(worst * 1e3, 2))


def search() -> Iterator[dict[str, Any]]:
    """Milliseconds for the first page of a search over everybody, the median of 21 documents."""
    snapshot = company()
    app = App(UUID(int=1), "app", "app", "app", "", None, "active", True, "sub", "strict", (), {})
    engine = create_engine("sqlite://")
    times = []
    with engine.connect() as connection:
        ObjectAct.__table__.create(connection)  # type: ignore[attr-defined]
        for number in range(21):
            request = AccessRequest("app", None, "t", f"d/{number * 17}", "read")
            started = time.perf_counter()
            find(connection, snapshot, Search(app, "subject", request, 100), NOW)
            times.append(time.perf_counter() - started)
    yield figure("policy.search.subjects", sorted(times)[10] * 1e3, "ms", 21, max_ms=round(max(times) * 1e3, 1))


FIGURES = {"policy.memory": memory, "policy.change": change, "policy.search.subjects": search}
