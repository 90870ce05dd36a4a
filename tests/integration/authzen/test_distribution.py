"""An application takes its policy along: signed, for a minute, only its own, and never looser than a decision here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import casbin
import orjson
import pytest
from joserfc import jws
from joserfc.jwk import KeySet
from werkzeug.test import TestResponse

from identity.apps.service import get_application, put_account_id
from identity.keys import rotate
from identity.people.service import set_user_state
from identity.roles.inputs import AssignmentInput
from identity.roles.service_assignments import assign
from policies import Action
from policies.bundle import Bundle, unpack
from tests.servers.templates import Address, Templates
from tests.world import COMPANY, World

BUNDLE = "/access/v1/bundle"
EXPENSE = COMPANY["applications"][0]
RIGHTS: dict[str, Any] = {
    **COMPANY,
    "applications": [
        {**EXPENSE, "rights": ["bundle"]},
        {"code": "oa", "name": "协同办公", "credential": "env:TEST_SECRET", "rights": ["bundle"]},
        {"code": "erp", "name": "ERP", "credential": "env:TEST_SECRET"},
    ],
    "org_units": [{"code": code, "name": code, "kind": "company", "currency": "CNY"} for code in ("C1", "C2")],
    "roles": [
        *COMPANY["roles"],
        {"application": "expense", "name": "archivist", "title": "Archivist"},
        {"application": "oa", "name": "clerk", "title": "Clerk"},
    ],
    "permissions": [
        *COMPANY["permissions"],
        {"role": "expense:archivist", "type": "file", "pattern": "2026/*", "actions": ["read"]},
        {"role": "expense:archivist", "type": "file", "pattern": "2026/secret", "actions": ["read"], "effect": "deny"},
        {"role": "expense:employee", "type": "note", "actions": ["write"], "condition": 'context.channel == "web"'},
        {"role": "expense:employee", "type": "own", "actions": ["read"], "condition": "subject.id == resource.id"},
        {"role": "oa:clerk", "type": "seal", "actions": ["use"]},
    ],
    "mappings": [*COMPANY["mappings"], {"group": "clerks", "role": "oa:clerk"}],
}


@pytest.fixture
def town(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[World]:
    made = templates.world(database_url, tmp_path, RIGHTS, groups=("staff", "leads", "clerks"))
    yield made
    made.close()


def get(world: World, path: str = BUNDLE, app: str = "expense", **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.call("GET", path, auth=(app, world.secret), headers=sent)


def verified(world: World, token: str, typ: str) -> dict[str, Any]:
    """The payload of a token whose signature the published keys confirm."""
    keys = KeySet.import_key_set(world.call("GET", f"{BUNDLE}/jwks").json or {})
    found = jws.deserialize_compact(token, keys, algorithms=["ES256"])
    assert found.headers()["typ"] == typ
    payload: dict[str, Any] = json(found.payload)
    return payload


def json(data: bytes) -> Any:
    value = orjson.loads(data)
    assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == data, "canonical JSON"
    return value


def fetch(world: World, app: str = "expense") -> Bundle:
    answer = get(world, app=app)
    assert answer.status_code == 200, answer.text
    return unpack(verified(world, answer.text, "bundle+jwt"))


def test_the_bundle_decides_as_the_decision_point_does(town: World) -> None:
    zhang, lisi = town.person("zhang", "staff"), town.person("lisi", "leads")
    with town.unit() as unit:
        until = unit.now + timedelta(days=1)
        wanted = {"holder_kind": "user", "holder_id": lisi, "role": "expense:archivist", "company": "C1"}
        assign(unit, AssignmentInput(**wanted, valid_until=until))
    bundle = fetch(town)
    now = bundle.issued_at
    assert bundle.not_after - now == timedelta(seconds=59)
    assert bundle.ask == {
        ("claim", "approve"): ("duty", "limit"),
        ("claim", "submit"): ("duty",),
        ("own", "read"): ("condition",),
    }
    questions = [
        (user, kind, resource, action, properties, context)
        for user in (zhang, lisi)
        for kind, resource, action in (
            *(("claim", "c1", "read"), ("claim", "..", "read"), ("claim", "c1", "delete"), ("note", "n", "write")),
            *(("file", "2026/a", "read"), ("file", "2026/secret", "read"), ("file", "2025/a", "read")),
        )
        for properties in ({}, {"company": "C1"}, {"company": "C2"})
        for context in ({}, {"channel": "web"})
    ]
    permitted = 0
    for user, kind, resource, action, properties, context in questions:
        body = {
            "subject": {"type": "user", "id": town.sub(user)},
            "action": {"name": action},
            "resource": {"type": kind, "id": resource, "properties": properties},
            "context": context,
        }
        theirs = town.call("POST", "/access/v1/evaluation", json=body, auth=("expense", town.secret)).json or {}
        mine = bundle.decide(
            town.sub(user), Action(action), kind, resource, now, properties=properties, context=context
        )
        assert (mine.permit, mine.reason) == (theirs["decision"], theirs["context"]["reason"]), body
        permitted += mine.permit
    assert permitted > 10
    with town.later(days=2):
        again = fetch(town)
        late = again.decide(
            town.sub(lisi), Action("read"), "file", "2026/a", again.issued_at, properties={"company": "C1"}
        )
        assert late.reason == "expired"


def test_an_unchanged_bundle_is_a_304_that_prolongs_it_and_a_changed_one_comes_anew(town: World) -> None:
    zhang = town.person("zhang", "staff")
    first = get(town)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    bundle = unpack(verified(town, first.text, "bundle+jwt"))
    town.person("clerk", "clerks")  # nobody of this application
    with town.later(seconds=50):
        same = get(town, If_None_Match=f'"other", {tag}')
        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", tag)
        assert "Content-Length" not in same.headers
        renewal = verified(town, same.headers["Bundle-Renewal"], "bundle-renewal+jwt")
        renewed = bundle.renewed(renewal)
        assert renewed.not_after - bundle.not_after >= timedelta(seconds=49)
        assert renewed.facts_revision > bundle.facts_revision
    with town.unit() as unit:
        set_user_state(unit, zhang, "disabled", cause="test")
    changed = get(town, If_None_Match=tag)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    gone = unpack(verified(town, changed.text, "bundle+jwt"))
    assert gone.decide(town.sub(zhang), Action("read"), "claim", "c", gone.issued_at).reason == "subject_unknown"
    reads = [one for one in town.records() if one["kind"] == "access.bundle.read"]
    assert [one["data"]["changed"] for one in reads] == [True, False, True]
    assert {one["actor"]["id"] for one in reads} == {"expense"}


def test_an_application_takes_its_own_policy_only_and_needs_a_right_for_it(town: World) -> None:
    town.person("zhang", "staff")
    clerk = town.person("clerk", "clerks")
    whole = get(town, app="oa")
    payload = verified(town, whole.text, "bundle+jwt")
    assert [row[0] for row in payload["subjects"]] == [town.sub(clerk)]
    assert {one["role"] for one in payload["permissions"]} == {"oa:clerk"}
    assert payload["aud"] == "oa"
    for path in (BUNDLE, f"{BUNDLE}/casbin", f"{BUNDLE}/shiro"):
        refused = get(town, path, app="erp")
        assert (refused.status_code, (refused.json or {})["error"]) == (403, "bundle_not_allowed")
        assert town.call("GET", path, auth=("expense", "wrong")).status_code == 401
        assert town.call("GET", path).status_code == 401
        assert town.call("POST", path, auth=("expense", town.secret)).status_code == 405
    refusals = [one for one in town.records() if one["kind"] == "access.bundle.read" and one["result"] == "refused"]
    assert [one["application"] for one in refusals] == ["erp"] * 3


def test_people_are_called_as_the_application_calls_them(database_url: str, tmp_path: Path) -> None:
    expense = {**EXPENSE, "rights": ["bundle"], "subject_id_field": "account_id"}
    world = World(database_url, tmp_path, {**COMPANY, "applications": [expense]})
    zhang, lisi = world.person("zhang", "staff"), world.person("lisi", "staff")
    with world.unit() as unit:
        put_account_id(unit, get_application(unit, "expense"), zhang, "10001")
    bundle = fetch(world)
    assert set(bundle.subjects) == {"10001"}
    with world.unit() as unit:
        put_account_id(unit, get_application(unit, "expense"), lisi, "10002")
    assert set(fetch(world).subjects) == {"10001", "10002"}
    world.close()


def test_casbin_reads_its_form(town: World, tmp_path: Path) -> None:
    zhang, lisi = town.sub(town.person("zhang", "staff")), town.sub(town.person("lisi", "leads"))
    answer = get(town, f"{BUNDLE}/casbin")
    form = answer.json or {}
    (tmp_path / "model.conf").write_text(form["model"])
    enforcer = casbin.Enforcer(str(tmp_path / "model.conf"))
    for kind, *words in form["policy"]:
        if kind == "p":
            enforcer.add_policy(*words)
        else:
            enforcer.add_named_grouping_policy(kind, *words)
    assert enforcer.enforce(zhang, "expense", "claim", "c1", "read")
    assert not enforcer.enforce(lisi, "expense", "claim", "c1", "read")
    assert not enforcer.enforce("expense:employee", "expense", "claim", "c1", "read"), "a role is nobody"
    asked = {(one["type"], one["action"]): one["why"] for one in form["ask"]}
    assert asked["claim", "submit"] == ["duty"]
    assert asked["file", "read"] == ["pattern"]
    assert lisi in form["ask_subjects"]
    assert get(town, f"{BUNDLE}/casbin", If_None_Match=answer.headers["ETag"]).status_code == 304


def test_shiro_reads_its_form(town: World) -> None:
    zhang = town.sub(town.person("zhang", "staff"))
    form = get(town, f"{BUNDLE}/shiro").json or {}
    assert form["users"][zhang] == ["expense:employee"]
    assert form["roles"]["expense:employee"] == ["application:sso:expense", "claim:read:*"]
    assert form["case_sensitive"] is True
    assert {(one["type"], one["action"]) for one in form["ask"]} >= {("claim", "submit"), ("file", "read")}


def test_the_keys_of_bundles_rotate_and_are_shown_before_they_sign(town: World) -> None:
    def kids() -> list[str]:
        return [one["kid"] for one in (town.call("GET", f"{BUNDLE}/jwks").json or {})["keys"]]

    [first] = kids()
    for hours in (0, 25):
        with town.later(hours=hours), town.unit() as unit:
            rotate.rotate(unit, town.app.extensions["tessera_root"])
    town.fresh()
    assert len(kids()) == 3
    answer = get(town)
    assert jws.extract_compact(answer.data).headers()["kid"] != first
    assert fetch(town).application == "expense"
    assert all("d" not in one for one in (town.call("GET", f"{BUNDLE}/jwks").json or {})["keys"])
    assert not set(kids()) & {one["kid"] for one in (town.call("GET", "/oauth/jwks").json or {})["keys"]}
