"""Why a decision is as it is: the same story by API and command line, of now and of what was recorded long ago."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from identity.audit.index import index_new
from identity.people.inputs import GroupInput
from identity.people.service import set_user_state
from identity.people.service_groups import change_children, put_group
from identity.roles.inputs import AdminGrantInput, RuleSetInput
from identity.roles.service_admin_grants import add_admin_grant
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from tests.servers.templates import Address, Templates
from tests.world import COMPANY, World

EXPENSE = {**COMPANY["applications"][0], "rights": ["explain"]}
OTHERS = [
    {"code": "erp", "name": "ERP", "credential": "env:TEST_SECRET", "rights": ["explain"]},
    {"code": "auditing", "name": "Audit tool", "credential": "env:TEST_SECRET", "rights": ["audit"]},
    {"code": "plain", "name": "Plain", "credential": "env:TEST_SECRET"},
]
TOWN: dict[str, Any] = {
    **COMPANY,
    "applications": [EXPENSE, *OTHERS],
    "roles": [
        *COMPANY["roles"],
        {"application": "expense", "name": "head", "title": "Head"},
        {"name": "manager", "title": "Manager"},
    ],
    "inheritance": [{"senior": "expense:head", "junior": "expense:approver"}],
    "mappings": [
        *COMPANY["mappings"],
        {"group": "managers", "role": "business:manager"},
        {"business_role": "business:manager", "role": "expense:head"},
    ],
}


@pytest.fixture
def town(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[World]:
    """A user of `team`, which is in `managers`, is a manager, thereby head, thereby approver."""
    made = templates.world(database_url, tmp_path, TOWN, groups=("staff", "leads", "managers", "team"))
    with made.unit() as unit:
        nest(unit, "managers", add="team")
    yield made
    made.close()


def nest(unit: Any, parent: str, **child: str) -> None:
    ids = {name: put_group(unit, GroupInput(name=name, display_name=name)).id for name in (parent, *child.values())}
    change_children(unit, ids[parent], **{verb: [ids[name]] for verb, name in child.items()})


def ask(town: World, user: UUID, action: str, caller: str = "expense", query: str = "", **stated: Any) -> Any:
    body = {
        "subject": {"type": "user", "id": town.sub(user)},
        "action": {"name": action},
        "resource": {"type": "claim", "id": "BX-1", "properties": stated},
    }
    town.fresh()
    return town.call("POST", f"/api/v1/explanations{query}", json=body, auth=(caller, town.secret))


def past(town: World, record: str, caller: str = "expense", **query: Any) -> Any:
    index_new(town.database, datetime.now(UTC))
    auth = (caller, town.secret)
    return town.call("GET", "/api/v1/explanations", query_string={"record": record, **query}, auth=auth)


def chain(way: Any) -> list[str]:
    """The steps; mapping rows and permissions by their kind only."""
    named = ("group", "role")
    return [f"{one['kind']}:{one['id']}" if one["kind"] in named else one["kind"] for one in way["steps"]]


MANAGERS_WAY = [
    *("group:team", "group:managers", "mapping", "role:business:manager", "mapping", "role:expense:head"),
    *("role:expense:approver", "permission"),
]


def test_the_chain_leads_from_the_nested_group_to_the_permission(town: World) -> None:
    user = town.person("wang", "team")
    told = ask(town, user, "approve", submitter=town.sub(town.person("zhao", "staff"))).json
    assert (told["decision"], told["reason"]) == (True, "permitted")
    [way] = told["ways"]
    assert way["decisive"]
    assert chain(way) == MANAGERS_WAY
    version = town.fresh().policy_version
    assert [one["since"]["policy_version"] for one in way["steps"] if one["kind"] == "mapping"] == [version, version]
    assert told["duties"][0]["id"] == "P01"
    assert told["duties"][0]["reason"] is None
    assert told["missing"] == []


def test_a_denial_says_how_far_each_way_came_and_what_was_missing(town: World) -> None:
    lead = town.person("li", "leads")
    over = ask(town, lead, "approve", amount={"value": "5000.01", "currency": "CNY"}).json
    assert (over["decision"], over["reason"]) == (False, "limit")
    [way] = over["ways"]
    assert way["decisive"]
    assert way["limit"] == {"value": "5000.00", "currency": "CNY"}
    assert [one["name"] for one in way["checks"] if not one["holds"]] == ["limit"]
    clerk = town.person("sun", "staff")
    without = ask(town, clerk, "approve").json
    assert (without["reason"], without["ways"]) == ("no_permission", [])
    [missing] = without["missing"]
    assert missing["roles"] == ["expense:approver", "expense:head"]
    rows = {(one["source"], one["role"]): one["reason"] for one in missing["mappings"]}
    assert rows == {
        ("leads", "expense:approver"): "mapping_source",
        ("business:manager", "expense:head"): "mapping_source",
        ("managers", "business:manager"): "mapping_source",
    }


def test_a_denial_names_the_row_that_excludes_and_the_condition_that_is_not_met(town: World) -> None:
    rows = [
        {"group": "leads", "role": "expense:approver", "exclude": True},
        {"group": "staff", "role": "expense:head", "condition": "subject.properties.position == 'head'"},
    ]
    publish(town, {"mappings": [*document_rows(), *rows]})
    user = town.person("qian", "leads", "staff")
    told = ask(town, user, "approve").json
    found = {(one["source"], one["role"]): one for one in told["missing"][0]["mappings"]}
    assert found["leads", "expense:approver"]["reason"] == "mapping_excluded"
    assert found["leads", "expense:approver"]["by"]
    assert found["staff", "expense:head"]["reason"] == "mapping_condition"


def document_rows() -> list[dict[str, Any]]:
    return [dict(one) for one in TOWN["mappings"]]


def publish(town: World, changes: dict[str, Any]) -> None:
    """New mapping rows, as the document writes them."""
    kinds = {"group": "group", "business_role": "business_role"}
    rows = []
    for one in changes["mappings"]:
        [kind] = [name for name in kinds if name in one]
        rows.append({"source_kind": kind, "source": one.pop(kind), **one})
    with town.unit() as unit:
        version = version_in_force(unit)
        content = load_rules(unit, version)
        wanted = RuleSetInput.model_validate({**content.model_dump(), "mappings": rows})
        change_rules(unit, wanted, based_on=version, note="test")


def test_an_object_duty_and_a_disabled_account_are_said(town: World) -> None:
    user = town.person("wang", "team", "staff")
    assert town.decide(user, "submit", "BX-1", intent="perform")["decision"]
    told = ask(town, user, "approve").json
    assert told["reason"] == "sod_object"
    [duty] = told["duties"]
    assert (duty["id"], duty["reason"]) == ("P01", "sod_object")
    assert [one["action"] for one in duty["acts"]] == ["submit"]
    assert chain(told["ways"][0]) == MANAGERS_WAY
    with town.unit() as unit:
        set_user_state(unit, user, "disabled", cause="test")
    told = ask(town, user, "approve").json
    assert (told["decision"], told["reason"]) == (False, "subject_disabled")
    assert not any(one["decisive"] for one in told["ways"])


def test_a_recorded_decision_is_explained_as_it_was_whatever_changed_since(town: World) -> None:
    user = town.person("wang", "team")
    zhao = town.sub(town.person("zhao", "staff"))
    answer = town.decide(user, "approve", "BX-7", submitter=zhao)
    assert answer["decision"]
    with town.unit() as unit:
        nest(unit, "managers", remove="team")
    publish(town, {"mappings": [{"group": "staff", "role": "expense:employee"}]})
    assert not ask(town, user, "approve", submitter=zhao).json["decision"]
    told = past(town, answer["context"]["id"]).json
    assert told["record"] == {
        "id": answer["context"]["id"],
        "item": None,
        "decision": True,
        "reason": "permitted",
        "same": True,
    }
    assert chain(told["ways"][0]) == MANAGERS_WAY
    assert told["policy_version"] == answer["context"]["policy_version"]
    told = text(town, "--record", answer["context"]["id"])
    assert told.startswith("PERMIT permitted")
    assert "=> group team -> group managers -> mapping" in told
    assert "the same answer again" in told


def test_an_item_of_a_batch_is_explained(town: World) -> None:
    user = town.person("wang", "staff")
    items = [{"action": {"name": name}} for name in ("read", "approve")]
    body = {
        "subject": {"type": "user", "id": town.sub(user)},
        "resource": {"type": "claim", "id": "BX-1"},
        "evaluations": items,
    }
    town.call("POST", "/access/v1/evaluations", json=body, auth=("expense", town.secret))
    [record] = [one["id"] for one in town.records() if one["kind"] == "access.decisions.made"]
    assert [past(town, record, item=n).json["reason"] for n in (0, 1)] == ["permitted", "no_permission"]
    assert past(town, record).status_code == 404
    assert past(town, record, item=2).status_code == 404
    assert past(town, record, item="x").status_code == 400


@pytest.mark.case("AZ-04")
def test_explanations_are_for_those_with_the_right_and_of_their_own_application(town: World) -> None:
    user = town.person("wang", "staff")
    record = town.decide(user, "read", "BX-1")["context"]["id"]
    assert past(town, record, caller="auditing").status_code == 200
    assert past(town, record, caller="erp").status_code == 404
    assert past(town, record, caller="plain").status_code == 403
    assert past(town, record, caller="nobody").status_code == 401
    assert ask(town, user, "read", caller="plain").status_code == 403
    assert ask(town, user, "read", caller="erp", query="?application=expense").status_code == 404
    told = ask(town, user, "read", caller="auditing", query="?application=expense")
    assert told.json["question"]["application"] == "expense"
    assert ask(town, user, "read", caller="erp").json["question"]["application"] == "erp"


def test_reading_an_explanation_is_recorded(town: World) -> None:
    user = town.person("wang", "staff")
    record = town.decide(user, "read", "BX-1")["context"]["id"]
    past(town, record)
    ask(town, user, "approve")
    text(town, "wang", "expense", "approve", "claim", "BX-1")
    read = [one for one in town.records() if one["kind"] == "audit.decision.explained"]
    assert [one["actor"]["kind"] for one in read] == ["application", "application", "system"]
    assert read[0]["data"] == {"record": record, "item": None}
    assert {one["user"] for one in read} == {str(user)}
    assert read[1]["action"] == "approve"


def test_rules_are_told_to_those_with_the_right_only(town: World) -> None:
    user = town.person("wang", "staff")
    context = town.decide(user, "read", "BX-1")["context"]
    assert context["reason_admin"]["rules"]
    body = {
        "subject": {"type": "user", "id": town.sub(user)},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": "BX-1"},
    }
    other = town.call("POST", "/access/v1/evaluation", json=body, auth=("plain", town.secret)).json["context"]
    assert other["reason_user"]["en"] == "This person is not known to the application."
    assert "reason_admin" not in other


def test_the_command_line_tells_the_same_and_says_what_it_does_not_know(town: World) -> None:
    user = town.person("li", "leads")
    words = ("li", "expense", "approve", "claim", "BX-1", "--stated", "amount=9000.00")
    told = text(town, *words)
    assert told.startswith("DENY limit")
    assert "fails limit" in told
    assert orjson.loads(text(town, *words, "--json"))["question"]["user"] == str(user)
    assert "Nobody has this user name." in text(town, "nobody", "expense", "approve", "claim", "BX-1", code=1)
    assert "Say who" in text(town, "li", code=1)
    assert "no such decision" in text(town, "--record", str(user), code=1)


def text(town: World, *words: str, code: int = 0) -> str:
    index_new(town.database, datetime.now(UTC))
    town.fresh()
    done = town.app.test_cli_runner().invoke(args=["identity", "explain", *words])
    assert done.exit_code == code, done.output
    return str(done.output)


def test_a_right_to_grant_is_explained(town: World) -> None:
    user = town.person("wang", "staff")
    limit = {"value": "100.00", "currency": "CNY"}
    wanted = {"holder_kind": "user", "holder": str(user), "powers": ["assign"], "roles": ["expense:*"], "limit": limit}
    with town.unit() as unit:
        grant = add_admin_grant(unit, AdminGrantInput.model_validate(wanted))
    asked = ("wang", "tessera", "assign", "assignment", "expense:approver")
    told = text(town, *asked)
    assert told.startswith("DENY grant_limit")
    assert f"right to grant {grant.grant_id} expense:*: grant_limit" in told
    told = text(town, "wang", "tessera", "read", "assignment", "page")
    assert told.startswith("PERMIT")
    assert "covers it" in told
