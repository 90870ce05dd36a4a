"""Without its database the server gives no answer: each door says so in its own words, and nothing is decided."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.servers.postgres import Postgres
from tests.world import API, CALLBACK, World


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[tuple[World, str]]:
    """A world whose PostgreSQL has stopped, and a token from before."""
    server = Postgres()
    server.start()
    try:
        world = World(server.database(), tmp_path)
        answer = world.token(grant_type="client_credentials", scope="vouchers", resource=API).json or {}
        world.database.engine.dispose()
    finally:
        server.stop()
    yield world, answer["access_token"]
    world.close()


@pytest.mark.case("AZ-15")
def test_no_door_answers_without_the_database(cut_off: tuple[World, str]) -> None:
    world, token = cut_off
    auth = ("expense", world.secret)
    question = {
        "subject": {"type": "user", "id": "a"},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": "c1"},
    }
    batch = {**question, "evaluations": [{}, {}]}
    for path, body in (("evaluation", question), ("evaluations", batch), ("search/subject", question)):
        answer = world.call("POST", f"/access/v1/{path}", json=body, auth=auth)
        assert answer.status_code == 503, path
        assert answer.headers["Retry-After"]
        assert "decision" not in answer.text
        assert "evaluations" not in (answer.json or {})
    for path in ("bundle", "bundle/casbin", "bundle/shiro"):
        assert world.call("GET", f"/access/v1/{path}", auth=auth).status_code == 503, path
    for path, form in (
        ("/oauth/token", {"grant_type": "client_credentials"}),
        ("/oauth/introspect", {"token": token}),
    ):
        answer = world.call("POST", path, data=form, auth=auth)
        assert (answer.status_code, (answer.json or {})["error"]) == (503, "temporarily_unavailable"), path
        assert "active" not in (answer.json or {})
    info = world.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})
    assert info.status_code == 503
    ticket = {"service": "https://app.example/cas", "ticket": "ST-1-abc"}
    validated = world.call("GET", f"/cas/serviceValidate?{urlencode(ticket)}")
    assert "INTERNAL_ERROR" in validated.text
    assert "authenticationSuccess" not in validated.text
    query = {"client_id": "expense", "response_type": "code", "redirect_uri": CALLBACK, "scope": "openid"}
    for path in (f"/oauth/authorize?{urlencode(query)}", "/", "/admin", "/account"):
        page = world.call("GET", path)
        assert page.status_code == 503, path
        assert page.headers["Retry-After"]
        assert "Traceback" not in page.text
    assert world.call("GET", "/readyz").status_code == 503
    assert world.call("GET", "/healthz").status_code == 200


@pytest.mark.case("AZ-15")
def test_a_locked_database_is_a_503_and_then_all_is_well_again(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path / 'tessera.db'}", tmp_path)
    user = world.person("zhang", "staff")
    sub = world.sub(user)
    other = sqlite3.connect(tmp_path / "tessera.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    body = {
        "subject": {"type": "user", "id": sub},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": "c1"},
    }
    answer = world.call("POST", "/access/v1/evaluation", json=body, auth=("expense", world.secret))
    assert (answer.status_code, "decision" in answer.text) == (503, False)
    other.execute("ROLLBACK")
    other.close()
    assert world.decide(user, "read", "c1")["decision"] is True
    world.close()
