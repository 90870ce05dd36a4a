"""Answers that leave later than the thread that made them: after their records, and never instead of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import EnvironBuilder

from identity.audit.recorder import Recorder
from identity.core.edge import Edge
from tests.servers.templates import Templates
from tests.world import World


class Asked:
    """One request that a server's thread gave to the edge; `answer` waits for what was replied."""

    def __init__(self, world: World, body: Any, auth: tuple[str, str], path: str = "/access/v1/evaluation") -> None:
        world.fresh()
        edge: Edge = world.app.extensions["tessera_edge"]
        environ = EnvironBuilder(path=path, method="POST", json=body, auth=auth).get_environ()
        self.elsewhere: list[Callable[[], None]] = []
        self._replied = threading.Event()
        self._told: list[tuple[int, dict[str, str], Any]] = []
        assert edge.is_prompt(environ)
        edge.later(environ, self._reply, self.elsewhere.append)

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self._told.append((status, dict(headers), json.loads(content)))
        self._replied.set()

    def answer(self) -> tuple[int, dict[str, str], Any]:
        assert self._replied.wait(60)
        (told,) = self._told
        return told

    @property
    def is_open(self) -> bool:
        return not self._told


@pytest.fixture
def world(database_url: str, tmp_path: Path, templates: Templates) -> Iterator[World]:
    made = templates.world(database_url, tmp_path)
    yield made
    made.close()


def question(world: World, user: UUID, action: str, intent: str = "ask", number: str = "C1") -> dict[str, Any]:
    return {
        "subject": {"type": "user", "id": world.sub(user)},
        "action": {"name": action},
        "resource": {"type": "claim", "id": number, "properties": {"company": "XH01"}},
        "context": {"intent": intent},
    }


def kinds(world: World) -> list[str]:
    return [record["kind"] for record in world.records()]


def test_an_answer_follows_its_record(world: World) -> None:
    auth = ("expense", world.secret)
    user = world.person("zhang", "staff")
    asked = Asked(world, question(world, user, "read"), auth)
    status, headers, answer = asked.answer()
    assert (status, headers["Cache-Control"], headers["X-Frame-Options"]) == (200, "no-store", "DENY")
    record = next(one for one in world.records() if one["id"] == answer["context"]["id"])
    assert (record["kind"], record["request_id"]) == ("access.decision.made", headers["X-Request-ID"])
    assert not asked.elsewhere


def test_a_batch_too(world: World) -> None:
    user = world.person("zhang", "staff")
    items = [question(world, user, "read", number=f"C{n}") for n in range(3)]
    asked = Asked(world, {"evaluations": items}, ("expense", world.secret), "/access/v1/evaluations")
    status, _, answer = asked.answer()
    assert (status, len(answer["evaluations"])) == (200, 3)
    assert kinds(world).count("access.decisions.made") == 1


def test_while_nothing_can_be_recorded_nothing_is_answered(world: World) -> None:
    user = world.person("zhang", "staff")
    body, auth = question(world, user, "read"), ("expense", world.secret)
    with world.database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE audit_record IN EXCLUSIVE MODE")
        asked = [Asked(world, body, auth) for _ in range(40)]
        assert all(one.is_open for one in asked)
    assert {one.answer()[0] for one in asked} == {200}
    assert kinds(world).count("access.decision.made") == 40


def test_who_does_not_prove_itself_is_recorded_before_it_is_told(world: World) -> None:
    user = world.person("zhang", "staff")
    status, headers, answer = Asked(world, question(world, user, "read"), ("expense", "wrong")).answer()
    assert (status, answer["error"]) == (401, "invalid_client")
    assert "Basic" in headers["WWW-Authenticate"]
    assert kinds(world).count("access.caller.refused") == 1


def test_what_must_wait_is_done_elsewhere(world: World) -> None:
    user, auth = world.person("zhang", "staff"), ("expense", world.secret)
    asked = Asked(world, question(world, user, "submit", "perform"), auth)
    assert asked.is_open
    assert "access.decision.made" not in kinds(world)
    (act,) = asked.elsewhere
    act()
    assert asked.answer()[2]["decision"] is True
    assert kinds(world).count("access.decision.made") == 1
    # The act counts: who submitted may not approve.
    refused = Asked(world, question(world, user, "approve", "perform"), auth)
    refused.elsewhere.pop()()
    assert refused.answer()[2]["decision"] is False


def test_a_recorder_that_takes_nothing_more_is_a_503(world: World) -> None:
    user = world.person("zhang", "staff")
    body = question(world, user, "read")
    recorder: Recorder = world.things[Recorder]
    recorder.stop()
    status, headers, answer = Asked(world, body, ("expense", world.secret)).answer()
    assert (status, answer["error"]) == (503, "temporarily_unavailable")
    assert "Retry-After" in headers
    assert "access.decision.made" not in kinds(world)
