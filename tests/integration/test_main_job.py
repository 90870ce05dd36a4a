"""Sign-in, tokens, tickets and decisions through the doors, on both databases."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select

from identity.audit.index import index_new
from identity.audit.models import AuditFind, AuditRecord
from identity.core import migrate
from identity.core.db import Base
from identity.people.service import set_user_state
from tests.world import API, CALLBACK, World


def kinds(world: World) -> list[str]:
    with world.database.read() as connection:
        bodies = connection.execute(select(AuditRecord.body)).scalars().all()
    return [orjson.loads(bytes(body))["kind"] for body in bodies]


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_models_and_migrations_agree_and_run_down_again(world: World) -> None:
    with world.database.engine.connect() as connection:
        options = {"compare_type": False, "include_name": migrate.without_partitions(connection)}
        context = MigrationContext.configure(connection, opts=options)
        found = [
            one
            for one in compare_metadata(context, Base.metadata)
            if "xid" not in str(one) and not str(one).startswith("('remove_index'")
        ]
    assert found == []
    migrate.downgrade(world.database.engine, "base")
    migrate.upgrade(world.database.engine)


def test_a_code_becomes_tokens_with_the_roles_of_this_application(world: World) -> None:
    person = world.person("zhang", "staff")
    browser = world.browser()
    assert browser.sign_in("zhang").status_code == 200
    back, verifier = browser.authorize()
    assert back["iss"] == "http://localhost:8000"
    answer = world.token(
        grant_type="authorization_code", code=back["code"], redirect_uri=CALLBACK, code_verifier=verifier
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json or {}
    info = world.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert info.json == {"sub": world.sub(person), "roles": ["employee"]}
    recorded = kinds(world)
    for kind in ("login.session.started", "oauth.code.issued", "oauth.token.issued", "access.decision.made"):
        assert kind in recorded


def test_tk_06_a_replayed_code_ends_the_whole_grant(world: World) -> None:
    world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    back, verifier = browser.authorize()
    form = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
    }
    first = world.token(**form).json or {}
    again = world.token(**form)
    assert (again.status_code, (again.json or {})["error"]) == (400, "invalid_grant")
    dead = world.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (dead.json or {})["error"] == "invalid_grant"
    info = world.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {first['access_token']}"})
    assert info.status_code == 401


def test_st_01_a_user_disabled_between_code_and_token_gets_nothing(world: World) -> None:
    person = world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    back, verifier = browser.authorize()
    with world.unit() as unit:
        set_user_state(unit, person, "disabled", cause="test")
    answer = world.token(
        grant_type="authorization_code", code=back["code"], redirect_uri=CALLBACK, code_verifier=verifier
    )
    assert (answer.json or {})["error"] == "invalid_grant"
    assert 'name="password"' in browser.follow(browser.go("/")).text


def test_refresh_rotates_and_a_lost_answer_can_be_repeated(world: World) -> None:
    world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    back, verifier = browser.authorize()
    first = (
        world.token(
            grant_type="authorization_code", code=back["code"], redirect_uri=CALLBACK, code_verifier=verifier
        ).json
        or {}
    )
    second = world.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json or {}
    repeated = world.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json or {}
    assert second["refresh_token"] != first["refresh_token"]
    assert repeated["refresh_token"] == second["refresh_token"]


def test_ru_17_an_unregistered_redirect_uri_is_a_page_even_with_other_errors(world: World) -> None:
    for address in (
        "https://app.example.evil.com/cb",
        f"{CALLBACK}/",
        "https://app.example@evil.com/cb",
        f"{CALLBACK}?y=2",
    ):
        query = {"client_id": "expense", "redirect_uri": address, "response_type": "foo", "prompt": "none"}
        answer = world.call("GET", f"/oauth/authorize?{urlencode(query)}")
        assert answer.status_code == 400
        assert "Location" not in answer.headers


def test_prompt_none_without_a_session_is_login_required(world: World) -> None:
    back, _ = world.browser().authorize(prompt="none")
    assert back["error"] == "login_required"
    assert back["state"] == "s"


def test_en_01_unknown_wrong_and_disabled_look_the_same(world: World) -> None:
    person = world.person("zhang", "staff")
    gone = world.person("gone", "staff")
    with world.unit() as unit:
        set_user_state(unit, gone, "disabled", cause="test")
    pages = []
    for login, password in (
        ("zhang", "wrong wrong wrong"),
        ("nobody", "wrong wrong wrong"),
        ("gone", "wrong wrong wrong"),
    ):
        answer = world.browser().sign_in(login, password)
        pages.append((answer.status_code, answer.text.count('role="alert"'), "is not right" in answer.text))
    assert pages == [pages[0]] * 3
    assert pages[0] == (200, 1, True)
    assert person


def test_cs_01_a_form_without_its_token_is_refused(world: World) -> None:
    assert world.call("POST", "/login", data={"login": "a", "password": "b"}).status_code == 403
    assert world.call("POST", "/logout").status_code == 403


def test_ca_03_a_ticket_for_another_service_is_burnt(world: World) -> None:
    world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    service = "https://app.example/cas"
    answer = browser.follow(browser.go(f"/cas/login?{urlencode({'service': service})}"))
    ticket = parse_qs(urlsplit(answer.headers["Location"]).query)["ticket"][0]
    wrong = world.call(
        "GET", f"/cas/serviceValidate?{urlencode({'service': 'https://evil.example/', 'ticket': ticket})}"
    )
    assert "INVALID_SERVICE" in wrong.text
    right = world.call("GET", f"/cas/serviceValidate?{urlencode({'service': service, 'ticket': ticket})}")
    assert "INVALID_TICKET" in right.text


def test_an_act_is_remembered_and_separates_duties(world: World) -> None:
    lead = world.person("li", "staff", "leads")
    other = world.person("wang", "staff", "leads")
    small = {"value": "10.00", "currency": "CNY"}
    assert world.decide(lead, "approve", "c1", amount=small)["context"]["reason"] == "sod_evidence_missing"
    assert world.decide(lead, "submit", "c1", "perform")["decision"] is True
    assert world.decide(lead, "approve", "c1", "perform", amount=small)["context"]["reason"] == "sod_object"
    assert world.decide(other, "approve", "c1", "perform", amount=small)["decision"] is True
    large = {"value": "5000.01", "currency": "CNY"}
    assert world.decide(other, "approve", "c1", amount=large)["context"]["reason"] == "limit"


def test_az_01_to_04_malformed_and_unauthenticated_evaluations(world: World) -> None:
    auth = ("expense", world.secret)
    for body in ({}, {"subject": "x"}, [], {"subject": {"type": "user", "id": "a"}, "action": {"name": 1}}):
        assert world.call("POST", "/access/v1/evaluation", json=body, auth=auth).status_code == 400
    assert world.call("POST", "/access/v1/evaluation", json={}).status_code == 401
    assert world.call("GET", "/access/v1/evaluation", auth=auth).status_code == 405
    text = world.call("POST", "/access/v1/evaluation", data="{}", content_type="text/plain", auth=auth)
    assert text.status_code == 400


def test_a_batch_stops_where_its_semantic_says(world: World) -> None:
    person = world.person("zhang", "staff")
    body = {
        "subject": {"type": "user", "id": world.sub(person)},
        "resource": {"type": "claim", "id": "c1"},
        "evaluations": [{"action": {"name": name}} for name in ("read", "pay", "read")] + [{"action": 5}],
    }
    auth = ("expense", world.secret)
    whole = world.call("POST", "/access/v1/evaluations", json=body, auth=auth).json or {}
    assert [one["decision"] for one in whole["evaluations"]] == [True, False, True, False]
    body["options"] = {"evaluations_semantic": "deny_on_first_deny"}
    cut = world.call("POST", "/access/v1/evaluations", json=body, auth=auth).json or {}
    assert [one["decision"] for one in cut["evaluations"]] == [True, False]


def test_introspection_answers_only_the_audience(world: World) -> None:
    token = (world.token(grant_type="client_credentials", scope="vouchers", resource=API).json or {})["access_token"]
    auth = ("expense", world.secret)
    assert (world.call("POST", "/oauth/introspect", data={"token": token}, auth=auth).json or {})["active"] is True
    assert world.call("POST", "/oauth/introspect", data={"token": token}).status_code == 401
    assert world.call("POST", "/oauth/introspect", data={"token": "x" * 100}, auth=auth).json == {"active": False}


def test_every_record_can_be_found(world: World) -> None:
    person = world.person("zhang", "staff")
    world.decide(person, "read", "bx-77")
    with world.unit() as unit:
        now = unit.now
    assert index_new(world.database, now) > 0
    with world.database.read() as connection:
        found = connection.execute(select(AuditFind.kind).where(AuditFind.resource_id == "bx-77")).scalars().all()
    assert found == ["access.decision.made"]
    assert index_new(world.database, now) == 0
