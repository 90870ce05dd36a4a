"""Searches say what single evaluations would say, and nothing that a caller claims of a person counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from identity.people.inputs import EmploymentInput, OrgUnitInput
from identity.people.service import set_user_state
from identity.people.service_org import put_employment, put_org_unit
from identity.roles.inputs import AssignmentInput
from identity.roles.service_assignments import assign
from tests.conftest import KINDS, server_of
from tests.servers.templates import Templates
from tests.world import COMPANY, World

ROLES = [f"archive:r{number}" for number in range(6)]
PATTERNS = ["**", "a/**", "a/*", "b/1", "*/2", "c/**"]
ACTIONS = ["read", "edit", "sign"]
CONDITIONS = [
    None,
    None,
    'subject.properties.position == "head"',
    'resource.properties.colour == "red"',
    'context.channel == "web"',
]
CHANCE = random.Random(21)


def rules() -> dict[str, Any]:
    """Random permissions, some denying, over a chain of roles."""
    plain = [{"role": ROLES[n], "type": "file", "actions": [ACTIONS[n - 3]]} for n in (4, 5)]
    permissions: dict[str, Any] = {repr(row): row for row in plain}
    while len(permissions) < 24:
        row = {
            "role": CHANCE.choice(ROLES),
            "type": "file",
            "pattern": CHANCE.choice(PATTERNS),
            "actions": [CHANCE.choice(ACTIONS)],
            "effect": CHANCE.choice(["permit", "permit", "permit", "deny"]),
            "condition": CHANCE.choice(CONDITIONS),
            "inherited": CHANCE.random() < 0.5,
        }
        permissions[repr(row)] = row
    return {
        "applications": [
            *COMPANY["applications"],
            {"code": "archive", "name": "Archive", "credential": "env:TEST_SECRET", "rights": ["search", "subjects"]},
        ],
        "roles": [{"application": "archive", "name": one.partition(":")[2], "title": one} for one in ROLES],
        "permissions": list(permissions.values()),
        "inheritance": [{"senior": ROLES[n], "junior": ROLES[n + 1]} for n in (0, 1, 3)],
        "mappings": [],
        "duties": [
            {
                "id": "A1",
                "kind": "object",
                "title": "editor ≠ signer",
                "definition": {"application": "archive", "type": "file", "actions": ["edit", "sign"]},
            }
        ],
    }


class Archive(World):
    """Random people with random assignments, random files."""

    people: list[UUID]
    files: list[dict[str, Any]]

    def fill(self) -> None:
        with self.unit() as unit:
            for code in ("C1", "C2"):
                put_org_unit(unit, OrgUnitInput(code=code, name=code, kind="company"))
        self.people = [self.person(f"user{number:02}") for number in range(14)]
        with self.unit() as unit:
            for one in self.people:
                for _ in range(CHANCE.randrange(4)):
                    assign(
                        unit,
                        AssignmentInput(
                            holder_kind="user",
                            holder_id=one,
                            role=CHANCE.choice(ROLES),
                            company=CHANCE.choice([None, None, "C1", "C2"]),
                            limit=CHANCE.choice([None, None, {"value": "50", "currency": "CNY"}]),
                        ),
                    )
                if CHANCE.random() < 0.5:
                    put_employment(unit, one, EmploymentInput(company_code="C1", position="head"))
            set_user_state(unit, self.people[3], "disabled", cause="test")
        self.files = [self.file(f"{folder}/{number}") for folder in "abc" for number in range(8)]
        assert self.post("resources", {"put": self.files})["put"] == len(self.files)
        for one in self.people:
            for resource in CHANCE.sample(self.files, k=3):
                context = {"intent": "perform", "channel": "web"}
                self.post("evaluation", {**question(self, one, "edit", resource), "context": context})
        self.fresh()

    def file(self, name: str) -> dict[str, Any]:
        stated = {
            "company": CHANCE.choice(["C1", "C2"]),
            "colour": CHANCE.choice(["red", "blue"]),
            "amount": {"value": CHANCE.choice(["10", "90"]), "currency": "CNY"},
        }
        kept = {key: value for key, value in stated.items() if CHANCE.random() < 0.8}
        return {"type": "file", "id": name, "properties": kept}

    def post(self, path: str, body: Any) -> Any:
        answer = self.call("POST", f"/access/v1/{path}", json=body, auth=("archive", self.secret))
        assert answer.status_code == 200, answer.text
        return answer.json

    def found(self, sought: str, body: dict[str, Any], limit: int) -> list[str]:
        """All pages of a search; no page holds more than its limit, and none comes twice."""
        results: list[str] = []
        page: dict[str, Any] = {"limit": limit}
        for _ in range(40):
            answer = self.post(f"search/{sought}", {**body, "page": page})
            assert len(answer["results"]) <= limit
            results += [one["name" if sought == "action" else "id"] for one in answer["results"]]
            token = answer["page"]["next_token"]
            if not token:
                return results
            page = {"token": token}
        raise AssertionError("the pages do not end")


def question(world: World, user: UUID, action: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"subject": {"type": "user", "id": world.sub(user)}, "action": {"name": action}, "resource": resource}


@pytest.fixture(scope="module", params=KINDS)
def archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    made = templates.world(templates.address(server_of(request), folder), folder, rules(), groups=(), kind=Archive)
    made.fill()
    yield made
    made.close()


@pytest.mark.case("AZ-21")
def test_a_search_is_exactly_what_evaluations_permit_on_pages_of_any_size(archive: Archive) -> None:
    context = {"channel": "web"}
    permitted: dict[tuple[UUID, str, str], bool] = {}
    for user in archive.people:
        items = [{"action": {"name": action}, "resource": one} for action in ACTIONS for one in archive.files]
        subject = {"type": "user", "id": archive.sub(user)}
        answers = archive.post("evaluations", {"subject": subject, "context": context, "evaluations": items})
        for item, answer in zip(items, answers["evaluations"], strict=True):
            permitted[user, item["action"]["name"], item["resource"]["id"]] = answer["decision"]
    assert 30 < sum(permitted.values()) < len(permitted) - 30, "the world is too strict, or too loose, to tell anything"
    assert any(yes for (_, action, _), yes in permitted.items() if action == "sign"), "no duty has its evidence"
    subs = {archive.sub(user): user for user in archive.people}
    for user in archive.people:
        for action in ACTIONS:
            body = {**question(archive, user, action, {"type": "file"}), "context": context}
            expected = sorted(one["id"] for one in archive.files if permitted[user, action, one["id"]])
            assert archive.found("resource", body, CHANCE.choice([1, 3, 50])) == expected
    for resource in archive.files:
        for action in ACTIONS:
            body = {"subject": {"type": "user"}, "action": {"name": action}, "resource": resource, "context": context}
            expected_users = {user for user in archive.people if permitted[user, action, resource["id"]]}
            found = archive.found("subject", body, CHANCE.choice([1, 2, 50]))
            assert len(found) == len(set(found))
            assert {subs[one] for one in found} == expected_users
        user = CHANCE.choice(archive.people)
        body = {"subject": {"type": "user", "id": archive.sub(user)}, "resource": resource, "context": context}
        actions = sorted(action for action in ACTIONS if permitted[user, action, resource["id"]])
        assert archive.found("action", body, 50) == actions


FORGED: list[dict[str, Any]] = [
    {"role": "admin", "roles": ROLES, "groups": ["leads"]},
    {"position": "head", "company": "C1", "login": "user01"},
    {"state": "active", "valid_until": None, "id": "somebody"},
]


@pytest.mark.case("AZ-22")
@pytest.mark.parametrize("forged", FORGED, ids=["roles", "attributes", "state"])
def test_what_a_caller_says_of_a_person_changes_no_answer(archive: Archive, forged: dict[str, Any]) -> None:
    context = {"channel": "web"}
    for user in archive.people:
        plain = {"type": "user", "id": archive.sub(user)}
        items = [{"action": {"name": action}, "resource": one} for action in ACTIONS for one in archive.files[::3]]
        answers = [
            archive.post("evaluations", {"subject": subject, "context": given, "evaluations": items})["evaluations"]
            for subject, given in (
                (plain, context),
                ({**plain, "properties": forged, **forged, "id": plain["id"]}, context),
                (plain, {**context, "subject": {"properties": forged}, **forged}),
            )
        ]
        told = [[(one["decision"], one["context"]["reason"]) for one in answer] for answer in answers]
        assert told[1] == told[0]
        assert told[2] == told[0]
        for sought, asked in (
            ("resource", {**question(archive, user, "read", {"type": "file"}), "context": context}),
            ("action", {"subject": plain, "resource": archive.files[0], "context": context}),
        ):
            lying = {**asked, "subject": {**plain, "properties": forged}}
            assert archive.found(sought, lying, 50) == archive.found(sought, asked, 50)
