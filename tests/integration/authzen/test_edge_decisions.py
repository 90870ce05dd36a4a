"""Decisions that an application made itself come back as its word: once, within a day, and never as ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from identity.authzen.edge import BATCH_MAX
from tests.world import World

PATH = "/access/v1/decisions"
SENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def decision(subject: str = "nobody", **more: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "at": (SENT - timedelta(seconds=5)).isoformat(),
        "subject": {"type": "user", "id": subject},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": "c1", "properties": {"company": "C1"}},
        "context": {"channel": "web"},
        "decision": True,
        "reason": "permitted",
        "rules": ["r1"],
        "policy_version": 1,
        "facts_revision": 7,
        **more,
    }


def report(world: World, *decisions: Any, sent: Any = None, **options: Any) -> TestResponse:
    body = {"sent_at": SENT.isoformat() if sent is None else sent, "decisions": list(decisions)}
    return world.call("POST", PATH, json=body, **{"auth": ("expense", world.secret), **options})


def batches(world: World) -> list[dict[str, Any]]:
    return [one for one in world.records() if one["kind"] == "access.decisions.reported"]


def test_a_batch_is_recorded_once_however_often_it_comes(world: World) -> None:
    zhang = world.person("zhang", "staff")
    first, second = decision(world.sub(zhang)), decision("stranger", decision=False, reason="no_permission")
    assert report(world, first, second, first).json == {"recorded": 2, "repeated": 1, "refused": []}
    assert report(world, second, first).json == {"recorded": 0, "repeated": 2, "refused": []}
    third = decision(world.sub(zhang))
    assert report(world, second, third).json == {"recorded": 1, "repeated": 1, "refused": []}
    one, two = batches(world)
    assert [item["id"] for item in one["data"]["items"]] == [first["id"], second["id"]]
    assert [item["id"] for item in two["data"]["items"]] == [third["id"]]
    item, unknown = one["data"]["items"]
    assert item["user"] == str(zhang)
    assert (unknown["user"], unknown["person"]) == (None, None)
    assert item["input"] == {"properties": {"company": "C1"}, "context": {"channel": "web"}}
    assert "stranger" not in str(one), "whom we do not know is not named"
    assert one["data"]["origin"] == "edge"
    assert not [each for each in world.records() if each["kind"] == "access.decision.made"]


def test_ids_of_one_application_say_nothing_of_anothers(world: World) -> None:
    assert report(world, decision(), auth=("expense", "wrong")).status_code == 401
    assert report(world, decision(), auth=("oa", world.secret)).status_code == 401
    assert not batches(world)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "1"},
        {"at": "yesterday"},
        {"at": (SENT - timedelta(hours=25)).isoformat()},
        {"at": (SENT + timedelta(seconds=30)).isoformat()},
        {"at": "2026-03-01T12:00:00"},
        {"subject": {"type": "machine", "id": "x"}},
        {"decision": "true"},
        {"decision": None},
        {"reason": "Because!"},
        {"rules": ["x" * 65]},
        {"policy_version": -1},
        {"policy_version": True},
        {"facts_revision": 2**60},
        {"resource": {"type": "claim", "id": ""}},
    ],
)
def test_what_is_wrong_with_one_decision_is_said_and_the_others_are_taken(world: World, wrong: dict[str, Any]) -> None:
    good, bad = decision(), decision(**wrong)
    answer = report(world, bad, good, "no object").json or {}
    assert (answer["recorded"], answer["repeated"]) == (1, 0)
    assert [one["id"] for one in answer["refused"]] == [bad["id"], ""]
    assert batches(world)[0]["data"]["refused"] == 2
    only = report(world, bad).json or {}
    assert (only["recorded"], len(only["refused"])) == (0, 1)
    assert batches(world)[1]["result"] == "refused"


def test_the_applications_clock_may_be_wrong(world: World) -> None:
    """Its times are measured against its own sending; how far it is off is kept beside them."""
    assert (report(world, decision()).json or {})["recorded"] == 1
    assert abs(batches(world)[0]["data"]["skew_s"]) > 86_400


def test_a_batch_has_a_size(world: World) -> None:
    assert report(world).status_code == 400
    assert report(world, *[decision()] * (BATCH_MAX + 1)).status_code == 400
    assert (report(world, *(decision() for _ in range(BATCH_MAX))).json or {})["recorded"] == BATCH_MAX
    assert report(world, decision(context={"x": "y" * 1_048_576})).status_code == 413
    for sent in ("", "now", 5):
        assert report(world, decision(), sent=sent).status_code == 400
    body = {"sent_at": SENT.isoformat(), "decisions": {}}
    assert world.call("POST", PATH, json=body, auth=("expense", world.secret)).status_code == 400
