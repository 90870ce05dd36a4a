"""OpenID's AuthZEN certification scenario for Authorization API 1.0: Basic, Batch, Search and Discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from identity.apps.service import get_application, put_account_id
from identity.configuration.apply import apply
from identity.configuration.document import load
from identity.login.authenticate import set_password
from tests.world import World

FIXTURE = Path(__file__).resolve().parents[2] / "vectors" / "authzen_certification.yaml"
ALICE, BOB = {"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}
ONE, TWO = {"type": "record", "id": "record-1"}, {"type": "record", "id": "record-2"}
READ, WRITE = {"name": "read"}, {"name": "write"}
ACTIVE, ARCHIVED = {**ONE, "properties": {"status": "active"}}, {**TWO, "properties": {"status": "archived"}}
ADMIN = {**BOB, "properties": {"role": "admin"}}
CONTEXT = {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}
FILE = {"type": "record"}
USERS = {"type": "user"}
EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"


@pytest.fixture
def pdp(world: World, tmp_path: Path) -> World:
    with world.unit() as unit:
        apply(unit, load(FIXTURE), tmp_path, set_password)
    for name in ("alice", "bob"):
        user = world.person(name, f"cert-{name}")
        with world.unit() as unit:
            put_account_id(unit, get_application(unit, "certification"), user, name)
    answer = ask(world, "/access/v1/resources", {"put": [ACTIVE, ARCHIVED]})
    assert answer.json == {"put": 2, "removed": 0}
    return world


def ask(world: World, path: str, body: Any, **options: Any) -> TestResponse:
    return world.call("POST", path, json=body, auth=("certification", world.secret), **options)


def evaluation(subject: Any, action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return {"subject": subject, "action": action, "resource": resource, **more}


def test_basic_decisions(pdp: World) -> None:
    cases = [
        (evaluation(ALICE, READ, ONE), True),
        (evaluation(ALICE, WRITE, ONE), True),
        (evaluation(BOB, READ, ONE), True),
        (evaluation(BOB, WRITE, ONE), False),
        (evaluation(ALICE, READ, ONE, context=CONTEXT), True),
        (evaluation(ALICE, WRITE, ARCHIVED), False),
        (evaluation(ADMIN, WRITE, ARCHIVED), True),
        (evaluation(ALICE, {"name": "delete", "properties": {"soft": True}}, ONE), True),
        (evaluation(ALICE, {"name": "delete", "properties": {"soft": False}}, ONE), False),
        (
            evaluation(
                {**ALICE, "properties": {"department": "Sales", "role": "manager"}},
                {"name": "read", "properties": {"method": "GET"}},
                {**ONE, "properties": {"status": "active", "owner": "bob"}},
            ),
            True,
        ),
        (evaluation(ALICE, READ, ONE, foo="bar", futureField={"nested": True}), True),
    ]
    for body, expected in cases * 2:
        answer = ask(pdp, EVALUATION, body)
        assert (answer.status_code, (answer.json or {}).get("decision")) == (200, expected), body
        assert answer.content_type == "application/json"


def test_a_caller_cannot_make_somebody_an_administrator_by_saying_so(pdp: World) -> None:
    claimed = {**ALICE, "properties": {"role": "admin"}}
    assert (ask(pdp, EVALUATION, evaluation(claimed, WRITE, ARCHIVED)).json or {})["decision"] is False


def test_basic_errors_are_400(pdp: World) -> None:
    whole = evaluation(ALICE, READ, ONE)
    bodies: list[Any] = [{name: value for name, value in whole.items() if name != gone} for gone in whole]
    bodies += [
        evaluation({"id": "alice"}, READ, ONE),
        evaluation({"type": "user"}, READ, ONE),
        evaluation(ALICE, {}, ONE),
        evaluation(ALICE, READ, {"id": "record-1"}),
        evaluation(ALICE, READ, FILE),
        evaluation("alice", READ, ONE),
        evaluation(ALICE, {"name": 123}, ONE),
    ]
    for body in bodies:
        answer = ask(pdp, EVALUATION, body)
        assert answer.status_code == 400, body
        assert "decision" not in (answer.json or {})
    auth = ("certification", pdp.secret)
    for data, kind in (("{", "application/json"), ("", "application/json"), ("{}", "text/plain")):
        assert pdp.call("POST", EVALUATION, data=data, content_type=kind, auth=auth).status_code == 400


def test_the_request_id_comes_back(pdp: World) -> None:
    for given in ("bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "a request <id>; with spaces"):
        answer = ask(pdp, EVALUATION, evaluation(ALICE, READ, ONE), headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == given
    assert ask(pdp, EVALUATION, evaluation(ALICE, READ, ONE)).headers["X-Request-ID"]


def test_batches(pdp: World) -> None:
    cases: list[tuple[dict[str, Any], list[bool]]] = [
        ({"subject": BOB, "resource": ONE, "evaluations": [{"action": READ}, {"action": WRITE}]}, [True, False]),
        (
            {"subject": ALICE, "action": WRITE, "evaluations": [{"resource": ACTIVE}, {"resource": ARCHIVED}]},
            [True, False],
        ),
        (
            {"action": WRITE, "resource": ARCHIVED, "evaluations": [{"subject": ALICE}, {"subject": ADMIN}]},
            [False, True],
        ),
        ({"evaluations": [evaluation(ALICE, READ, ONE), evaluation(BOB, WRITE, ONE)]}, [True, False]),
        (
            {
                "subject": ALICE,
                "action": READ,
                "context": CONTEXT,
                "evaluations": [{"resource": ONE}, {"resource": TWO, "context": {"source": "batch-override"}}],
            },
            [True, True],
        ),
        ({**evaluation(ALICE, WRITE, ACTIVE), "evaluations": [{}, {"resource": ARCHIVED}]}, [True, False]),
        (
            {
                "subject": ALICE,
                "action": READ,
                "options": {"evaluations_semantic": "execute_all"},
                "evaluations": [{"resource": ONE}, {}],
            },
            [True, False],
        ),
    ]
    for body, expected in cases:
        answer = ask(pdp, EVALUATIONS, body)
        assert answer.status_code == 200
        assert [one["decision"] for one in (answer.json or {})["evaluations"]] == expected, body
        assert "decision" not in (answer.json or {})
    for more in ({}, {"evaluations": []}):
        assert (ask(pdp, EVALUATIONS, {**evaluation(ALICE, READ, ONE), **more}).json or {})["decision"] is True


def results(world: World, sought: str, body: Any) -> list[str]:
    answer = ask(world, f"/access/v1/search/{sought}", body)
    assert answer.status_code == 200, answer.text
    kind = "name" if sought == "action" else "id"
    return [one[kind] for one in (answer.json or {})["results"]]


def test_searches(pdp: World) -> None:
    for more in ({}, {"context": CONTEXT}):
        for subject in (USERS, ALICE):
            assert results(pdp, "subject", evaluation(subject, READ, ONE, **more)) == ["alice", "bob"]
        for resource in (FILE, ONE):
            assert results(pdp, "resource", evaluation(ALICE, READ, resource, **more)) == ["record-1", "record-2"]
        assert results(pdp, "action", {"subject": ALICE, "resource": ONE, **more}) == ["read", "write"]
    assert results(pdp, "subject", evaluation(USERS, WRITE, ARCHIVED)) == ["bob"]
    assert results(pdp, "resource", evaluation(ADMIN, WRITE, FILE)) == ["record-2"]
    assert results(pdp, "action", {"subject": ADMIN, "resource": ARCHIVED}) == ["read", "write"]
    assert results(pdp, "action", {"subject": {"type": "user", "id": "nonexistent"}, "resource": ONE}) == []
    assert results(pdp, "subject", evaluation({"type": "spaceship"}, READ, ONE)) == []
    assert results(pdp, "resource", evaluation(ALICE, READ, {"type": "spaceship"})) == []
    assert results(pdp, "action", {"subject": ALICE, "resource": {"type": "spaceship", "id": "1"}}) == []


def test_search_errors_are_400(pdp: World) -> None:
    cases: list[tuple[str, Any]] = [
        ("subject", {"subject": USERS, "resource": ONE}),
        ("resource", {"action": READ, "resource": FILE}),
        ("action", {"subject": ALICE}),
        ("subject", evaluation(USERS, READ, FILE)),
        ("resource", evaluation(USERS, READ, FILE)),
        ("action", {"subject": USERS, "resource": ONE}),
        ("subject", evaluation(USERS, READ, ONE, page=[])),
        ("subject", evaluation(USERS, READ, ONE, page={"limit": -1})),
        ("subject", evaluation(USERS, READ, ONE, page={"limit": True})),
        ("subject", evaluation(USERS, READ, ONE, page={"token": "bm90IGEgdG9rZW4="})),
        ("subject", []),
    ]
    for sought, body in cases:
        assert ask(pdp, f"/access/v1/search/{sought}", body).status_code == 400, body


def test_pages_follow_each_other_and_a_token_belongs_to_its_query(pdp: World) -> None:
    query = evaluation(USERS, READ, ONE)
    first = ask(pdp, "/access/v1/search/subject", {**query, "page": {"limit": 1}}).json or {}
    assert [one["id"] for one in first["results"]] == ["alice"]
    token = first["page"]["next_token"]
    second = ask(pdp, "/access/v1/search/subject", {**query, "page": {"token": token}}).json or {}
    assert [one["id"] for one in second["results"]] == ["bob"]
    last = second["page"]["next_token"]
    third = ask(pdp, "/access/v1/search/subject", {**query, "page": {"token": last}}).json or {}
    assert (third["results"], third["page"]["next_token"]) == ([], "")
    for other in (
        evaluation(USERS, WRITE, ONE, page={"token": token}),
        {**query, "page": {"token": token, "limit": 2}},
    ):
        assert ask(pdp, "/access/v1/search/subject", other).status_code == 400


def test_discovery(pdp: World) -> None:
    answer = pdp.call("GET", "/.well-known/authzen-configuration")
    body = answer.json or {}
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert body["policy_decision_point"] == "http://localhost:8000"
    for name, path in {
        "access_evaluation_endpoint": EVALUATION,
        "access_evaluations_endpoint": EVALUATIONS,
        "search_subject_endpoint": "/access/v1/search/subject",
        "search_resource_endpoint": "/access/v1/search/resource",
        "search_action_endpoint": "/access/v1/search/action",
    }.items():
        assert body[name] == f"http://localhost:8000{path}"


def test_a_search_is_a_right_of_its_own_and_one_record(pdp: World) -> None:
    body = evaluation(USERS, READ, ONE)
    refused = pdp.call("POST", "/access/v1/search/subject", json=body, auth=("expense", pdp.secret))
    assert (refused.status_code, (refused.json or {})["error"]) == (403, "search_not_allowed")
    ask(pdp, "/access/v1/search/subject", body)
    made = [one for one in pdp.records() if one["kind"] == "access.search.made"]
    assert [(one["result"], one.get("data", {}).get("count")) for one in made] == [("refused", None), ("success", 2)]


def test_registered_resources_can_be_removed_and_are_checked(pdp: World) -> None:
    assert ask(pdp, "/access/v1/resources", {"remove": [TWO]}).json == {"put": 0, "removed": 1}
    assert results(pdp, "resource", evaluation(ALICE, READ, FILE)) == ["record-1"]
    wrong = {**ONE, "properties": {"amount": {"value": 1.5, "currency": "CNY"}}}
    for body in ({"put": [wrong]}, {"put": [{"type": "record"}]}, {"put": 5}, []):
        assert ask(pdp, "/access/v1/resources", body).status_code == 400
