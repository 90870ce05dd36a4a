"""From a committed change to the first decision that knows it, on two server nodes with one PostgreSQL."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import event

from benchmarks.figure import figure
from benchmarks.served import ROOT, SECRETS, flask, prepared, ready
from identity.app import create_app
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.people.service import find_user_by_login, set_user_state
from tests.servers.slapd import free_port

CHANGES = int(os.environ.get("BENCH_CHANGES", "200"))
PAUSE_S = 0.005
GIVE_UP_S = 10.0


class _Node:
    """Asks one node the same question all the time, on a thread of its own."""

    def __init__(self, address: str, sub: str) -> None:
        self._http = httpx.Client(base_url=address, auth=("expense", SECRETS["EXPENSE_PDP_SECRET"]), timeout=30)
        self._body = {
            "subject": {"type": "user", "id": sub},
            "action": {"name": "sso"},
            "resource": {"type": "application", "id": "expense"},
        }
        self.seen: list[tuple[float, bool | None]] = []
        """When a question was asked, and its answer; None = not able to decide (503)."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def knows(self, wanted: bool) -> bool:
        """Whether its last answer is the new one."""
        return bool(self.seen) and self.seen[-1][1] is wanted

    def late_s(self, committed: float, wanted: bool) -> float:
        """How long after the commit a question was still asked in vain: its answer was the old one."""
        return max((asked - committed for asked, answer in list(self.seen) if answer is (not wanted)), default=0.0)

    def _ask(self) -> None:
        while not self._stop.wait(PAUSE_S):
            asked = time.monotonic()
            answer = self._http.post("/access/v1/evaluation", json=self._body)
            self.seen.append((asked, answer.json().get("decision") if answer.status_code == 200 else None))


@contextmanager
def _nodes(env: dict[str, str], sub: str) -> Iterator[list[_Node]]:
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            port = free_port()
            words = f"--interface wsgi --host 127.0.0.1 --port {port} --workers 1 --blocking-threads 4 --no-ws"
            command = [sys.executable, "-m", "granian", *words.split(), "wsgi:application"]
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, timeout=30)
            stack.callback(process.terminate)
            ready(f"http://127.0.0.1:{port}")
            node = _Node(f"http://127.0.0.1:{port}", sub)
            stack.callback(node.stop)
            found.append(node)
        yield found


def _change(units: Units, user_id: UUID, state: str) -> float:
    """When the change was given to the database to commit."""
    at: list[float] = []

    def note(_: object) -> None:
        at.append(time.monotonic())

    with units.open(Actor.system("bench")) as unit:
        set_user_state(unit, user_id, state, cause="bench")
        connection = unit.db.connection()
        event.listen(connection, "commit", note)
    return at[0]


def freshness() -> Iterator[dict[str, Any]]:
    """Seconds after a commit in which a question may still be asked in vain: p99 of a third process's changes."""
    chance = random.Random(8)
    with prepared("postgres") as env:
        flask(env, "sync", "hq")
        app = create_app(Settings.from_env(env))
        units: Units = app.extensions["tessera"][Units]
        with units.open(Actor.system("bench")) as unit:
            user = find_user_by_login(unit, "zhangsan")
            if user is None:
                raise RuntimeError("the demo company has no zhangsan")
            user_id, sub = user.id, str(user.sub)
        late: list[float] = []
        asked = refused = 0
        with _nodes(env, sub) as nodes:
            for number in range(CHANGES):
                wanted = bool(number % 2)
                time.sleep(chance.uniform(0.3, 0.5))
                for node in nodes:
                    node.seen.clear()
                committed = _change(units, user_id, "active" if wanted else "disabled")
                for node in nodes:
                    while not node.knows(wanted):
                        if time.monotonic() > committed + GIVE_UP_S:
                            raise RuntimeError("a node does not learn of a change")
                        time.sleep(PAUSE_S)
                time.sleep(0.1)  # an old answer that comes yet counts
                late += [max(0.0, node.late_s(committed, wanted)) for node in nodes]
                asked += sum(len(node.seen) for node in nodes)
                refused += sum(answer is None for node in nodes for _, answer in node.seen)
        ordered = sorted(late)
        yield figure(
            "policy.freshness",
            ordered[int(len(ordered) * 0.99)],
            "s",
            len(ordered),
            median_s=round(ordered[len(ordered) // 2], 3),
            max_s=round(ordered[-1], 3),
            questions=asked,
            refused=refused,
        )


FIGURES = {"policy.freshness": freshness}
