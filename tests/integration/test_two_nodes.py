"""Two nodes with one database: a change acts on what is asked a second later, and a node that is cut off is silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from werkzeug.test import Client

from identity.app import create_app
from identity.audit.recorder import Recorder
from identity.core.db import Database
from identity.core.feed import STALE_S, Feed
from identity.people.service import set_user_state
from tests.servers.postgres import Postgres
from tests.servers.templates import Templates
from tests.world import World

ROLE = "node2"


@dataclass
class Node:
    """A second process's worth of server, fed by nothing but its own polling; it signs in to the database as `ROLE`."""

    client: Client
    admin: psycopg.Connection[object]
    secret: str

    def ask(self, sub: str) -> tuple[int, bool | None]:
        body = {
            "subject": {"type": "user", "id": sub},
            "action": {"name": "read"},
            "resource": {"type": "claim", "id": "c1"},
        }
        answer = self.client.post("/access/v1/evaluation", json=body, auth=("expense", self.secret))
        return answer.status_code, (answer.json or {}).get("decision")

    def cut(self) -> None:
        self.admin.execute(f"ALTER ROLE {ROLE} NOLOGIN")
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (ROLE,))

    def restore(self) -> None:
        self.admin.execute(f"ALTER ROLE {ROLE} LOGIN")


@pytest.fixture
def nodes(postgres: Postgres, templates: Templates, tmp_path: Path) -> Iterator[tuple[World, Node]]:
    world = World(templates.copy(postgres, tmp_path), tmp_path)
    url = world.settings.sqlalchemy_url
    admin = psycopg.connect(f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres", autocommit=True)
    admin.execute(f"CREATE ROLE {ROLE} SUPERUSER LOGIN")
    settings = world.settings.model_copy(update={"database_url": SecretStr(url.replace("postgres@", f"{ROLE}@", 1))})
    app = create_app(settings)
    things = app.extensions["tessera"]
    yield world, Node(Client(app.extensions["tessera_edge"]), admin, world.secret)
    things[Feed].stop()
    things[Recorder].stop()
    things[Database].engine.dispose()
    world.close()
    admin.execute(f"DROP ROLE {ROLE}")
    admin.close()


def test_a_change_acts_on_every_question_that_is_asked_a_second_later(nodes: tuple[World, Node]) -> None:
    world, other = nodes
    zhang = world.person("zhang", "staff")
    sub = world.sub(zhang)
    while other.ask(sub) != (200, True):
        pass
    for state, wanted in (("disabled", False), ("active", True)) * 3:
        with world.unit() as unit:
            set_user_state(unit, zhang, state, cause="test")
        committed = time.monotonic()
        while True:
            asked = time.monotonic()
            status, permit = other.ask(sub)
            # 503 is no answer: a node that was held up may give none.
            assert asked - committed <= STALE_S or (status, permit) in {(200, wanted), (503, None)}
            if asked - committed > STALE_S:
                break
        while other.ask(sub) != (200, wanted):
            pass


def test_a_node_that_cannot_confirm_its_revision_says_so_and_nothing_old(nodes: tuple[World, Node]) -> None:
    world, other = nodes
    zhang = world.person("zhang", "staff")
    sub = world.sub(zhang)
    while other.ask(sub) != (200, True):
        pass
    assert other.client.get("/access/v1/bundle/jwks").status_code == 200
    other.cut()
    cut = time.monotonic()
    with world.unit() as unit:
        set_user_state(unit, zhang, "disabled", cause="test")
    while time.monotonic() - cut <= STALE_S:
        assert other.ask(sub)[0] == 503, "it cannot record, so it does not answer"
    for path in ("/access/v1/bundle/jwks", "/oauth/jwks"):
        answer = other.client.get(path)
        assert (answer.status_code, answer.headers["Retry-After"] != "") == (503, True), "memory alone is not enough"
    assert other.ask(sub) == (503, None)
    other.restore()
    while (answered := other.ask(sub))[0] == 503:
        pass
    assert answered == (200, False), "the first answer is the new one"
