"""A fresh installation: no account, no secret, nothing permitted, and one way to the first administrator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from click.testing import Result
from sqlalchemy import func, select
from werkzeug.test import Client, TestResponse

from identity.login.models import LocalPassword, SetupToken
from identity.people.models import User
from identity.roles.models import Assignment
from tests.world import World

BASE = "https://id.example.com"
PASSWORD = "a long enough sentence"


@pytest.fixture
def fresh(database_url: str, tmp_path: Path) -> Iterator[World]:
    """Outside the demo, migrated, with an empty configuration."""
    key = tmp_path / "var" / "root.key"  # that of the database's keys
    made = World(database_url, tmp_path, {}, tessera_demo=False, public_url=BASE, root_key_file=key)
    yield made
    made.close()


def command(world: World, *words: str) -> Result:
    """`flask identity …`"""
    return world.app.test_cli_runner().invoke(args=["identity", *words])


def invite(world: World, login: str = "ada", role: str = "security-admin") -> str:
    """The one-time token of a new administrator."""
    done = command(world, "bootstrap-admin", login, "--name", "Ada Wong", "--role", role)
    assert done.exit_code == 0, done.output
    found = re.search(r"^setup_\S{43}$", done.output, re.MULTILINE)
    assert found, done.output
    return found[0]


class Visitor:
    """A browser at the installation's https address."""

    def __init__(self, world: World) -> None:
        self.client = Client(world.app.extensions["tessera_edge"])

    def get(self, path: str) -> TestResponse:
        return self.client.get(path, base_url=BASE, follow_redirects=True)

    def send(self, page: TestResponse, path: str, **fields: str) -> TestResponse:
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        return self.client.post(path, base_url=BASE, data={**hidden, **fields}, follow_redirects=True)

    def choose(self, login: str, token: str, password: str = PASSWORD, again: str = "") -> TestResponse:
        fields = {"login": login, "token": token, "password": password, "again": again or password}
        return self.send(self.get("/setup"), "/setup", **fields)


def count(world: World, model: Any) -> int:
    with world.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(model)).scalar_one())


def test_df_01_a_fresh_installation_has_no_account_no_secret_and_permits_nothing(fresh: World) -> None:
    assert (count(fresh, User), count(fresh, LocalPassword), count(fresh, Assignment)) == (0, 0, 0)
    visitor = Visitor(fresh)
    for login in ("admin", "secadmin", "tessera"):
        page = visitor.send(visitor.get("/admin"), "/login", login=login, password="Tessera-demo-2026")
        assert "is not right" in page.text
    assert fresh.call("POST", "/access/v1/evaluation", json={}, auth=("expense", "")).status_code == 401
    assert fresh.call("POST", "/oauth/token", data={"grant_type": "client_credentials"}).status_code == 401
    assert fresh.call("POST", "/oauth/register", json={}).status_code == 404
    headers = fresh.call("GET", "/healthz").headers
    assert "max-age" in headers["Strict-Transport-Security"]


def test_the_first_administrator_chooses_a_password_and_adds_a_second_factor(fresh: World) -> None:
    token = invite(fresh)
    visitor = Visitor(fresh)
    signing_in = visitor.choose("ada", token)
    assert 'name="password"' in signing_in.text
    enrol = visitor.send(signing_in, "/login", login="ada", password=PASSWORD)
    seed = re.search(r"<code[^>]*>([A-Z2-7]{32})</code>", enrol.text)
    assert seed, enrol.text
    codes = visitor.send(enrol, "/login/enrol", code=pyotp.TOTP(seed[1]).now())
    assert codes.text.count("<li><code>") == 10
    assert visitor.get("/admin/users").status_code == 200
    kinds = [record["kind"] for record in fresh.records()]
    for kind in ("login.setup_token.issued", "roles.assignment.added", "login.password.changed"):
        assert kind in kinds
    assert token not in str(fresh.records())


def test_a_token_is_good_once_for_its_login_and_for_an_hour(fresh: World) -> None:
    token = invite(fresh)
    visitor = Visitor(fresh)
    for login, wrong in (("ada", "setup_" + "x" * 43), ("ada", ""), ("eve", token)):
        assert "is not right" in visitor.choose(login, wrong).text
    with fresh.later(seconds=3_600):
        assert "is not right" in visitor.choose("ada", token).text
    assert count(fresh, LocalPassword) == 0
    assert 'name="tx"' in visitor.choose("ADA", f" {token} ").text
    assert "is not right" in visitor.choose("ada", token, "another long sentence").text
    assert count(fresh, SetupToken) == 0
    reasons = [one["reason"] for one in fresh.records() if one["kind"] == "login.setup_token.refused"]
    assert reasons == ["wrong_token", "wrong_token", "wrong_token", "expired", "wrong_token"]


def test_a_password_that_may_not_be_leaves_the_token_as_it_was(fresh: World) -> None:
    token = invite(fresh)
    visitor = Visitor(fresh)
    assert "12 to 1024 characters" in visitor.choose("ada", token, "short").text
    assert "must not contain the login" in visitor.choose("ada", token, "ada and a long sentence").text
    assert "not the same" in visitor.choose("ada", token, PASSWORD, PASSWORD + "!").text
    assert count(fresh, LocalPassword) == 0
    assert 'name="tx"' in visitor.choose("ada", token).text


def test_guessed_tokens_make_the_guesser_wait(fresh: World) -> None:
    token = invite(fresh)
    visitor = Visitor(fresh)
    for _ in range(6):
        visitor.choose("ada", "setup_guess")
    assert "is not right" in visitor.choose("ada", token).text
    with fresh.later(seconds=120):
        assert 'name="tx"' in visitor.choose("ada", token).text


def test_each_administration_role_begins_with_one_person(fresh: World) -> None:
    first = invite(fresh)
    again = invite(fresh)
    assert "is not right" in Visitor(fresh).choose("ada", first).text
    for words, sentence in (
        (("bob", "--name", "Bob", "--role", "security-admin"), "Somebody is security-admin already"),
        (("ada", "--name", "Ada", "--role", "audit-admin"), "There is a user ada already."),
        (("root", "--name", "Root"), "reserved"),
        (("a b", "--name", "A"), "spaces"),
    ):
        refused = command(fresh, "bootstrap-admin", *words)
        assert refused.exit_code != 0
        assert sentence in refused.output
        assert "setup_" not in refused.output
    assert 'name="tx"' in Visitor(fresh).choose("ada", again).text
    assert command(fresh, "bootstrap-admin", "ada", "--name", "Ada").exit_code == 1
    invite(fresh, "carol", "system-admin")
    invite(fresh, "dave", "audit-admin")


def test_cs_01_the_setup_form_needs_its_form_token(fresh: World) -> None:
    token = invite(fresh)
    fields = {"login": "ada", "token": token, "password": PASSWORD, "again": PASSWORD}
    assert fresh.call("POST", "/setup", data=fields).status_code == 403
    assert count(fresh, LocalPassword) == 0
