"""What one node is told acts on every other within a second; what cannot be known is no answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import Client

from identity.app import create_app
from identity.audit.recorder import Recorder
from identity.core.db import Database
from identity.core.feed import STALE_S, Feed
from identity.login.authenticate import DirectoryVerifier
from identity.people.inputs import GroupInput
from identity.people.service_groups import change_members, put_group
from identity.roles.inputs import AssignmentInput
from identity.roles.service_assignments import assign, revoke
from tests.world import World


def question(world: World, user: UUID, action: str) -> dict[str, Any]:
    return {
        "subject": {"type": "user", "id": world.sub(user)},
        "action": {"name": action},
        "resource": {"type": "claim", "id": "c1"},
    }


class Node:
    """A second process of the same installation, as far as one test process can hold it: all of its own but the
    database."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.app: Flask = create_app(world.settings)
        self.things: dict[type, Any] = self.app.extensions["tessera"]
        self._client = Client(self.app.extensions["tessera_edge"])

    def decide(self, user: UUID, action: str) -> Any:
        auth = ("expense", self.world.secret)
        return self._client.post("/access/v1/evaluation", json=question(self.world, user, action), auth=auth)

    def close(self) -> None:
        self.things[DirectoryVerifier].close()
        feed: Feed = self.things[Feed]
        feed.stop()
        recorder: Recorder = self.things[Recorder]
        recorder.stop()
        database: Database = self.things[Database]
        database.engine.dispose()


@pytest.fixture
def node(world: World) -> Iterator[Node]:
    made = Node(world)
    yield made
    made.close()


@pytest.mark.case("AZ-14", "ST-08")
@pytest.mark.parametrize("way", ["assignment", "group"])
def test_a_revoked_role_is_gone_on_a_node_that_heard_nothing(world: World, node: Node, way: str) -> None:
    user = world.person("zhang")
    with world.unit() as unit:
        if way == "assignment":
            row = assign(unit, AssignmentInput(holder_kind="user", holder_id=user, role="expense:employee"))
            assignment = row.assignment_id
    if way == "group":
        world.join(user, "staff")
    assert node.decide(user, "read").json["decision"] is True
    feed: Feed = node.things[Feed]
    feed.stop()  # it polls no more, as if it were held up
    assert node.decide(user, "read").json["decision"] is True
    with world.unit() as unit:
        if way == "assignment":
            revoke(unit, assignment)
        else:
            group = put_group(unit, GroupInput(name="staff", display_name="staff"))
            change_members(unit, group.id, remove=[user])
    time.sleep(STALE_S)  # what is promised: every decision that starts a second later
    answer = node.decide(user, "read")
    assert answer.status_code == 200
    assert answer.json["decision"] is False


@pytest.mark.case("AZ-15")
def test_rules_that_cannot_be_read_are_no_answer_until_they_can(world: World, node: Node) -> None:
    user = world.person("zhang", "staff")
    assert node.decide(user, "read").json["decision"] is True
    rename(world, "role_mapping", "mapping_gone")
    notice(world)
    time.sleep(STALE_S)
    for _ in range(3):
        answer = node.decide(user, "read")
        assert answer.status_code == 503
        assert "decision" not in answer.json
    rename(world, "mapping_gone", "role_mapping")
    time.sleep(STALE_S)
    assert node.decide(user, "read").json["decision"] is True


def rename(world: World, table: str, name: str) -> None:
    """As a broken restore or a half migration would leave it."""
    with world.database.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def notice(world: World) -> None:
    """Tell every node that the rules have changed, as a commit does."""
    with world.database.write() as connection:
        seq = connection.execute(text("UPDATE counter SET feed_seq = feed_seq + 1 RETURNING feed_seq")).scalar_one()
        connection.execute(text("INSERT INTO change_feed (seq, kind, ids) VALUES (:seq, 'policy', '[]')"), {"seq": seq})


@pytest.mark.case("AZ-15")
@pytest.mark.parametrize("action", ["read", "submit"])
def test_a_decision_that_cannot_be_recorded_is_no_answer(world: World, action: str) -> None:
    user = world.person("zhang", "staff")
    body = {**question(world, user, action), "context": {"intent": "perform"}}
    auth = ("expense", world.secret)
    rename(world, "audit_record", "audit_gone")
    for path, sent in (("evaluation", body), ("evaluations", {**body, "evaluations": [{}, {}]})):
        answer = world.call("POST", f"/access/v1/{path}", json=sent, auth=auth)
        assert answer.status_code in {500, 503}
        assert "decision" not in (answer.json or {})
        assert "evaluations" not in (answer.json or {})
    rename(world, "audit_gone", "audit_record")
    answer = world.call("POST", "/access/v1/evaluation", json=body, auth=auth)
    assert answer.json["decision"] is True, "the act of the failed ones was not kept"
