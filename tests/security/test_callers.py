"""A caller asks only about its own application and the people entitled to it; more is a right of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from identity.people.service import set_user_state
from tests.conftest import KINDS, server_of
from tests.servers.templates import Templates
from tests.world import COMPANY, World

SHOP = {
    "code": "shop",
    "name": "Shop",
    "credential": "env:TEST_SECRET",
    "rights": ["search"],
}
COMPANIES: dict[str, Any] = {
    **COMPANY,
    "applications": [
        *COMPANY["applications"],
        SHOP,
        {**SHOP, "code": "desk", "name": "Desk", "rights": ["search", "subjects"]},
    ],
    "roles": [
        *COMPANY["roles"],
        {"application": "shop", "name": "buyer", "title": "Buyer"},
        {"application": "desk", "name": "clerk", "title": "Clerk"},
    ],
    "permissions": [
        *COMPANY["permissions"],
        {"role": "shop:buyer", "type": "claim", "actions": ["read"]},
        {"role": "desk:clerk", "type": "claim", "actions": ["read"]},
    ],
    "mappings": [
        *COMPANY["mappings"],
        {"group": "buyers", "role": "shop:buyer"},
        {"group": "clerks", "role": "desk:clerk"},
    ],
    "duties": [
        {
            "id": "P02",
            "kind": "object",
            "title": "submitter ≠ reader",
            "definition": {"application": "shop", "type": "claim", "actions": ["submit", "read"]},
        }
    ],
}


@pytest.fixture(scope="module", params=KINDS)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("callers")
    address = templates.address(server_of(request), folder)
    made = templates.world(address, folder, COMPANIES, groups=("staff", "leads", "buyers", "clerks"))
    yield made
    made.close()


def ask(world: World, caller: str, subject: str, path: str = "evaluation", **more: Any) -> Any:
    body = {
        "subject": {"type": "user", "id": subject},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": "c1"},
        **more,
    }
    answer = world.call("POST", f"/access/v1/{path}", json=body, auth=(caller, world.secret))
    assert answer.status_code == 200, answer.text
    return answer.json


def told(answer: Any) -> dict[str, Any]:
    """All that is said, but for what names this one answer."""
    context = {name: value for name, value in answer["context"].items() if name not in {"id", "facts_revision"}}
    return {"decision": answer["decision"], **context}


def outsiders(world: World) -> list[str]:
    """Somebody of another application, active and disabled, somebody without any role, and nobody."""
    people = [world.person(f"p{uuid4().hex[:8]}", *groups) for groups in (("staff",), ("staff",), ())]
    with world.unit() as unit:
        set_user_state(unit, people[1], "disabled", cause="test")
    world.fresh()
    return [*map(world.sub, people), str(uuid4())]


def test_people_of_other_applications_are_nobody_to_it(world: World) -> None:
    answers = [told(ask(world, "shop", subject)) for subject in outsiders(world)]
    assert answers[0]["reason"] == "subject_unknown"
    assert all(one == answers[0] for one in answers), "what is said must not tell who exists and who has left"
    for subject in outsiders(world):
        for path in ("search/resource", "search/action"):
            assert ask(world, "shop", subject, path)["results"] == []
        batch = ask(world, "shop", subject, "evaluations", evaluations=[{}, {"action": {"name": "submit"}}])
        assert {one["context"]["reason"] for one in batch["evaluations"]} == {"subject_unknown"}


def test_the_right_to_ask_about_anybody_tells_more(world: World) -> None:
    reasons = [ask(world, "desk", subject)["context"]["reason"] for subject in outsiders(world)]
    assert reasons == ["no_permission", "subject_disabled", "no_permission", "subject_unknown"]


def test_who_is_entitled_stays_known_when_he_leaves_or_his_role_ends(world: World) -> None:
    buyer = world.person(f"p{uuid4().hex[:8]}", "buyers")
    submitter = {"properties": {"submitter": world.sub(world.person(f"p{uuid4().hex[:8]}", "staff"))}}
    resource = {"resource": {"type": "claim", "id": "c2", **submitter}}
    assert ask(world, "shop", world.sub(buyer), **resource)["decision"] is True, "who acted may be anybody"
    with world.unit() as unit:
        set_user_state(unit, buyer, "disabled", cause="test")
    world.fresh()
    assert ask(world, "shop", world.sub(buyer), **resource)["context"]["reason"] == "subject_disabled"


def test_nobody_is_represented_who_is_not_known_to_it(world: World) -> None:
    buyer = world.sub(world.person(f"p{uuid4().hex[:8]}", "buyers"))
    for subject in outsiders(world):
        answer = ask(world, "shop", buyer, context={"on_behalf_of": subject})
        assert answer["context"]["reason"] == "subject_unknown"


def test_the_application_asked_about_is_the_callers_own(world: World) -> None:
    clerk = world.person(f"p{uuid4().hex[:8]}", "clerks", "buyers")
    named = {"application": "desk", "resource": {"type": "claim", "id": "c3", "application": "desk"}}
    answer = ask(world, "shop", world.sub(clerk), **named)
    assert answer["context"]["reason"] == "sod_evidence_missing", "by the shop's own rules"
    made = [one for one in world.records() if one["kind"] == "access.decision.made" and one.get("user") == str(clerk)]
    assert {one["application"] for one in made} == {"shop"}


def test_the_record_keeps_whom_the_caller_named(world: World) -> None:
    subject = outsiders(world)[0]
    record = ask(world, "shop", subject)["context"]["id"]
    [made] = [one for one in world.records() if one["id"] == record]
    assert made["input"]["subject"] == subject
    assert "user" not in made
    assert UUID(subject)
