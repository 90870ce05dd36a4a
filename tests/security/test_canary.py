"""Every door is driven with secrets that we know; then they are looked for wherever something is written down."""

from __future__ import annotations

import base64
import io
import logging
import os
import re
import secrets
import subprocess
import sys
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import orjson
import pyotp
import pytest
from sqlalchemy import inspect, text
from werkzeug.test import TestResponse

from identity.audit.export import write_csv, write_json_lines
from identity.audit.index import index_new
from identity.audit.query import Filter
from identity.audit.sentence import sentence
from identity.core import secrets as made_secrets
from identity.core.log import JsonLines
from identity.shipping import ecs
from tests.conftest import KINDS, server_of
from tests.security.town import BYE, CAS, SP, TOWN, VERIFIER, Town, submit
from tests.servers.templates import Templates
from tests.world import PASSWORD, Browser, World

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {
    name: f"Canary-{name}-{secrets.token_hex(6)}" for name in ("right", "next", "wrong", "setup", "secret", "bearer")
}


class Heard(logging.Handler):
    """The log's lines as they would be written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Watched(Town):
    """A town that remembers its secrets, and what its refusals and redirects said."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.canaries: dict[str, str] = {f"password {name}": value for name, value in PASSWORDS.items()}
        self.said: list[tuple[str, str]] = []
        super().__init__(*args, **options)

    def hide(self, name: str, value: str) -> str:
        """From now on nobody may write this down."""
        assert len(value) >= 6, f"{name} is too short to be looked for"
        self.canaries[name] = value
        return value

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        return self.hear(super().call(method, path, **options))

    def hear(self, answer: TestResponse) -> TestResponse:
        if answer.status_code >= 400:
            self.said.append((answer.request.path, answer.text + str(answer.headers)))
        return answer


@pytest.fixture(params=KINDS)
def city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Watched]:
    """As in production: no demo, https, a root key of its own, two administrators to come."""
    folder = tmp_path_factory.mktemp("canary")
    url = templates.empty(server_of(request), folder)
    root = folder / "root.key"
    root.write_bytes(secrets.token_bytes(32))
    root.chmod(0o600)
    made = Watched(url, folder, TOWN, tessera_demo=False, public_url="https://id.example", root_key_file=root)
    made.hide("root key", base64.b64encode(root.read_bytes()).decode())
    made.hide("root key in hex", root.read_bytes().hex())
    made.hide("application secret", made.secret)
    yield made
    made.close()


@pytest.fixture
def log() -> Iterator[Heard]:
    """All that any logger says, at the most talkative level."""
    heard = Heard()
    watched = [logging.getLogger(), logging.getLogger("identity")]
    before = [(one, one.level) for one in watched]
    for one in watched:
        one.addHandler(heard)
        one.setLevel(logging.DEBUG)
    yield heard
    for one, level in before:
        one.removeHandler(heard)
        one.setLevel(level)


def totp(town: Town, seed: str) -> str:
    return pyotp.TOTP(seed).at(datetime.now(UTC) + town.ahead)


def cookies(town: Watched, browser: Browser, whose: str) -> None:
    for name in ("sid", "admin", "form"):
        found = browser.client.get_cookie(f"__Host-{name}", "id.example")
        if found is not None and found.value:
            town.hide(f"{whose} cookie {name}", found.value)


def sign_in(town: Watched) -> Browser:
    """The browser of a person with password and second factor, after some mistakes."""
    login, _user = town.someone()
    browser = town.browser()
    page = browser.sign_in(login, PASSWORDS["wrong"])
    assert "is not right" in page.text
    browser.sign_in(login)
    changed = submit(
        browser,
        "/account/password",
        browser.go("/account"),
        old=PASSWORD,
        new=PASSWORDS["right"],
        again=PASSWORDS["right"],
    )
    assert changed.status_code == 200, changed.text[:500]
    town.hide("first password", PASSWORD)
    cookies(town, browser, "person")
    page = browser.go("/account/factor")
    seed = town.hide("seed", unescape(re.search(r"\b([A-Z2-7]{32})\b", page.text)[1]))  # type: ignore[index]
    wrong = submit(browser, "/account/factor", page, code="918273")
    assert wrong.status_code == 200
    done = submit(browser, "/account/factor", page, code=totp(town, seed))
    for number, code in enumerate(re.findall(r"\b[2-9a-z]{5}(?:-[2-9a-z]{5}){3}\b", done.text)):
        town.hide(f"recovery code {number}", code)
    assert town.canaries.get("recovery code 9")
    cookies(town, browser, "person with factor")
    other = town.browser()
    page = other.sign_in(login, PASSWORDS["right"])
    submit(other, "/login/totp", page, code="nonsense-code-1")
    submit(other, "/login/totp", page, code=town.canaries["recovery code 0"])
    cookies(town, other, "recovered")
    return browser


def openid(town: Watched, browser: Browser) -> None:
    """Codes and tokens of every sort, right, wrong, used twice, and in the wrong place."""
    first = town.hide("code", town.code(browser, scope="openid profile roles offline_access"))
    tokens = (town.redeem(first)).json or {}
    for name in ("access_token", "refresh_token", "id_token"):
        town.hide(name, tokens[name])
        town.hide(f"{name} signature", tokens[name].rpartition(".")[2])
    town.hide("verifier", VERIFIER)
    again = town.refresh(tokens["refresh_token"]).json or {}
    town.hide("second refresh token", again["refresh_token"])
    town.userinfo(tokens["access_token"])
    town.userinfo(PASSWORDS["bearer"])
    town.introspect(tokens["access_token"])
    town.introspect(town.hide("token nobody knows", made_secrets.new_secret("rt")))
    wrong = ("desk", PASSWORDS["secret"])
    town.call("POST", "/oauth/token", data={"grant_type": "client_credentials"}, auth=wrong)
    town.call("POST", "/oauth/introspect", data={"token": tokens["access_token"]}, auth=wrong)
    town.hide("basic", base64.b64encode(":".join(wrong).encode()).decode())
    post = {"client_id": "desk-post", "client_secret": PASSWORDS["secret"], "grant_type": "authorization_code"}
    town.call("POST", "/oauth/token", data={**post, "code": town.hide("wrong code", made_secrets.new_secret("code"))})
    town.refresh(town.hide("wrong refresh token", made_secrets.new_secret("rt")))
    town.redeem(town.hide("code twice", town.code(browser)))
    town.redeem(town.canaries["code twice"])
    town.as_client("desk", grant_type="password", username="x", password=PASSWORDS["wrong"])
    town.call("POST", "/oauth/revoke", data={"token": again["refresh_token"]}, auth=("desk", town.secret))
    town.call("GET", f"/oauth/userinfo?{urlencode({'access_token': tokens['access_token']})}")
    town.call("GET", "/oauth/token?client_secret=" + PASSWORDS["secret"])
    town.hear(browser.go(f"/oauth/authorize?{urlencode({'client_id': 'desk', 'client_secret': PASSWORDS['secret']})}"))


def assertions(town: Watched, browser: Browser) -> None:
    """SAML and CAS."""
    request = (
        '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" '
        f'ID="_{secrets.token_hex(8)}" Version="2.0" IssueInstant="{datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}">'
        f"<saml:Issuer>{SP}</saml:Issuer></samlp:AuthnRequest>"
    )
    packer = zlib.compressobj(wbits=-15)
    packed = base64.b64encode(packer.compress(request.encode()) + packer.flush()).decode()
    page = browser.follow(browser.go(f"/saml/sso?{urlencode({'SAMLRequest': packed, 'RelayState': 'relay'})}"))
    answer = re.search(r'name="SAMLResponse" value="([^"]+)"', page.text)
    assert answer is not None, page.text[:500]
    response = town.hide("SAML response", unescape(answer[1]))
    xml = base64.b64decode(response).decode()
    for number, value in enumerate(re.findall(r"SignatureValue>([^<]{40,})<", xml)):
        town.hide(f"SAML signature {number}", value.split()[0])
    town.hear(browser.client.post("/saml/sso", data={"SAMLRequest": response}, base_url=browser.base))
    service = browser.follow(browser.go(f"/cas/login?service={quote(CAS)}"))
    ticket = town.hide("ticket", service.headers["Location"].partition("ticket=")[2])
    for one in (ticket, ticket, town.hide("wrong ticket", f"ST-{secrets.token_urlsafe(24)}")):
        town.call("GET", f"/cas/p3/serviceValidate?{urlencode({'service': CAS, 'ticket': one})}")


def callers(town: Watched) -> None:
    """Applications that ask, with right and wrong credentials."""
    body = {"subject": {"type": "user", "id": "x"}, "action": {"name": "read"}, "resource": {"type": "t", "id": "1"}}
    for secret in (town.secret, PASSWORDS["secret"]):
        town.call("POST", "/access/v1/evaluation", json=body, auth=("desk", secret))
        town.call("GET", "/api/v1/audit/heads", auth=("desk", secret))
    town.call("POST", "/access/v1/evaluation", json=body, headers={"Authorization": f"Bearer {PASSWORDS['bearer']}"})


def administrators(town: Watched) -> None:
    """A one-time token, a password chosen with it, a new application secret, and an export of the record."""
    done = town.app.test_cli_runner().invoke(args=["identity", "bootstrap-admin", "ada", "--name", "Ada"])
    token = town.hide("setup token", re.search(r"setup_\S{43}", done.output)[0])  # type: ignore[index]
    visitor = town.browser()
    for given in (made_secrets.new_secret("setup"), token):
        town.hide(f"given {given[:9]}", given)
        page = visitor.follow(visitor.go("/setup"))
        chosen = {"password": PASSWORDS["setup"], "again": PASSWORDS["setup"]}
        submit(visitor, "/setup", page, login="ada", token=given, **chosen)
    admin = town.browser()
    page = admin.sign_in("ada", PASSWORDS["setup"], "/admin")
    seed = town.hide("administrator's seed", re.search(r"\b([A-Z2-7]{32})\b", page.text)[1])  # type: ignore[index]
    submit(admin, "/login/enrol", page, code=totp(town, seed))
    cookies(town, admin, "administrator")
    page = admin.go("/admin/applications/desk")
    made = submit(admin, "/admin/applications/desk/secret", page, client_id="desk", reason="rotation")
    assert made.status_code == 200, made.text[:300]
    town.hide("new secret", re.search(r"\b((?:secret|client|cs|app)_[\w-]{43})\b", made.text)[1])  # type: ignore[index]
    town.hear(admin.client.post("/admin/assignments", data={"password": PASSWORDS["wrong"]}, base_url=admin.base))


def broken(town: Watched, browser: Browser) -> None:
    """The same doors while a table of theirs is missing: what a fault of ours logs."""
    code = town.hide("code in a fault", town.code(browser))
    for table in ("once", "local_password", "login_session"):
        with town.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO gone_{table}"))
        try:
            town.redeem(code)
            town.refresh(town.canaries["second refresh token"])
            town.hear(town.browser().sign_in("nobody", PASSWORDS["wrong"]))
            town.hear(browser.go("/account"))
        finally:
            with town.database.write() as connection:
                connection.execute(text(f"ALTER TABLE gone_{table} RENAME TO {table}"))


def leave(town: Watched, browser: Browser) -> None:
    """Logout, with what goes to the applications by the outbox."""
    query = urlencode({"id_token_hint": town.canaries["id_token"], "post_logout_redirect_uri": BYE})
    town.hear(browser.go(f"/oauth/logout?{query}"))
    submit(browser, "/logout", browser.go("/logout"))


def stored(town: Watched) -> Iterator[tuple[str, str]]:
    """Every value of every table, as text; and the exports and documents that are made of the record."""
    with town.database.read() as connection:
        for name in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{name}"')).mappings():
                for column, value in row.items():
                    yield f"{name}.{column}", value.decode("latin-1") if isinstance(value, bytes) else str(value)
    index_new(town.database, datetime.now(UTC) + timedelta(minutes=1))
    with town.database.read() as connection:
        for write in (
            lambda file: write_csv(connection, Filter(), file, ZoneInfo("Asia/Shanghai")),
            lambda file: write_json_lines(connection, Filter(), file),
        ):
            file = io.BytesIO()
            assert write(file).rows
            yield "export", file.getvalue().decode()
    for body in World.records(town):
        yield "shipped", orjson.dumps(ecs.document(body, sentence(body))).decode()


@pytest.mark.case("LG-02", "LG-03", "AU-06")
def test_no_secret_is_written_down_anywhere(city: Watched, log: Heard) -> None:
    browser = sign_in(city)
    openid(city, browser)
    assertions(city, browser)
    callers(city)
    administrators(city)
    broken(city, browser)
    leave(city, browser)
    assert len(city.canaries) > 40
    found = {
        (name, where)
        for where, written in [*stored(city), *(("log", line) for line in log.lines), *city.said]
        for name, value in city.canaries.items()
        if value in written
    }
    assert not found
    assert log.lines, "the log was heard"
    assert not any("[parameters: " in line for line in log.lines)


@pytest.mark.case("LG-03")
def test_no_process_of_ours_leaves_its_memory_in_a_file(tmp_path: Path) -> None:
    code = "import resource, wsgi; print(resource.getrlimit(resource.RLIMIT_CORE))"
    env = {**os.environ, "TESSERA_DEMO": "1", "TESSERA_VAR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "(0, 0)"
