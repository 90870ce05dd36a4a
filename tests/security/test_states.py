"""The state × path matrix: what a state of a person or a client does to everything that was begun before it.

Each cell prepares what the path needs while all is well, brings the state about, takes the path, and compares the
answer with the table. `-` = the state says nothing about the path.
"""

from __future__ import annotations

import base64
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import pyotp
import pytest
from werkzeug.test import TestResponse

from identity.apps.inputs import OidcInput
from identity.apps.service import faces_of, get_application, put_oidc_client, remove_face, set_application_status
from identity.keys.keyring import Keyring
from identity.login import authenticate, mfa, service
from identity.login.logout import LogoutNotifiers, end_sessions_of_user
from identity.people.inputs import GroupInput
from identity.people.service import set_user_state
from identity.people.service_groups import change_members, put_group
from identity.roles.service_assignments import bootstrap_administrator
from tests.security.town import BASE, CAS, DESK_API, PASSWORD, SP, TOWN, Town, fields, submit
from tests.world import Browser

TABLE = """
                  disabled        deleted         expired         locked  session_over    factor_owed           role_gone      consent_gone     app_disabled    client_gone    grant_gone
sign_in           no              no              no              no      yes             factor                yes            yes              yes             yes            yes
sso               login           login           login           yes     login           factor                access_denied  consent          page            page           page
silent            login_required  login_required  login_required  yes     login_required  interaction_required  access_denied  consent_required page            page           page
code              invalid_grant   invalid_grant   invalid_grant   yes     invalid_grant   yes                   invalid_grant  invalid_grant    invalid_client  invalid_client unauthorized_client
refresh           invalid_grant   invalid_grant   invalid_grant   yes     invalid_grant   yes                   invalid_grant  invalid_grant    invalid_client  invalid_client unauthorized_client
offline           invalid_grant   invalid_grant   invalid_grant   yes     yes             yes                   invalid_grant  invalid_grant    invalid_client  invalid_client unauthorized_client
credentials       -               -               -               -       -               -                     -              -                invalid_client  invalid_client unauthorized_client
introspection     inactive        inactive        inactive        yes     inactive        yes                   no_roles       inactive         invalid_client  inactive       yes
userinfo          401             401             401             yes     401             yes                   no_roles       401              401             401            yes
saml              login           login           login           yes     login           factor                RequestDenied  yes              page            yes            yes
saml_start        login           login           login           yes     login           factor                RequestDenied  yes              page            yes            yes
cas               login           login           login           yes     login           factor                page           yes              page            yes            yes
console           login           login           login           yes     login           factor                -              -                -               -              -
decision          no              no              no              yes     yes             yes                   no             yes              401             yes            yes
"""  # noqa: E501
_HEAD, *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [(name, row[0], cell) for row in _ROWS for name, cell in zip(_HEAD, row[1:], strict=True) if cell != "-"]


@dataclass
class Party:
    """A person with a browser that is signed in, and the client that he meets."""

    town: Town
    login: str
    user: UUID
    browser: Browser
    client: str


@contextmanager
def state(name: str, party: Party) -> Iterator[None]:
    """Inside, this is so."""
    begin, end = STATES[name]
    with party.town.unit() as unit:
        begin(unit, party)
    try:
        yield
    finally:
        with party.town.unit() as unit:
            end(unit, party)


def user_is(name: str) -> Callable[[Any, Party], None]:
    def make(unit: Any, party: Party) -> None:
        until = unit.now if name == "expired" else None
        set_user_state(unit, party.user, "active" if until else name, cause="test", valid_until=until)

    return make


def lock(unit: Any, party: Party) -> None:
    for _ in range(12):
        authenticate.count_failure(unit.db.connection(), party.login, "192.0.2.1", unit.now)


def unlock(unit: Any, party: Party) -> None:
    authenticate.forget_failures(unit.db.connection(), party.login)


def end_sessions(unit: Any, party: Party) -> None:
    end_sessions_of_user(unit, party.user, "test", party.town.things[LogoutNotifiers])


def add_factor(unit: Any, party: Party) -> None:
    keyring = party.town.things[Keyring]
    seed = mfa.begin_enrolment(unit, keyring, party.user)
    assert mfa.confirm_enrolment(unit, keyring, party.user, pyotp.TOTP(seed).at(unit.now))


def remove_factor(unit: Any, party: Party) -> None:
    mfa.remove_factor(unit, party.user)


def leave_staff(unit: Any, party: Party) -> None:
    group = put_group(unit, GroupInput(name="staff", display_name="staff"))
    change_members(unit, group.id, remove=[party.user])


def withdraw(unit: Any, party: Party) -> None:
    app = get_application(unit, "desk")
    assert service.withdraw_consent(unit, party.user, app.id, party.town.things[LogoutNotifiers])


def app_is(status: str) -> Callable[[Any, Party], None]:
    def make(unit: Any, party: Party) -> None:
        set_application_status(unit, "desk", status, get_application(unit, "desk").row_version)

    return make


def remove_client(unit: Any, party: Party) -> None:
    app = get_application(unit, "desk")
    remove_face(unit, app, next(face for face, wire_name in faces_of(unit, app) if wire_name == party.client))


def without_grants(unit: Any, party: Party) -> None:
    put_oidc_client(unit, get_application(unit, "desk"), client_of(party.client, grant_types=[]))


def put_client_back(unit: Any, party: Party) -> None:
    put_oidc_client(unit, get_application(unit, "desk"), client_of(party.client))


def leave(unit: Any, party: Party) -> None:
    """Nothing to put back: the person is this test's own."""


STATES: dict[str, tuple[Callable[[Any, Party], None], Callable[[Any, Party], None]]] = {
    "disabled": (user_is("disabled"), user_is("active")),
    "deleted": (user_is("deleted"), user_is("active")),
    "expired": (user_is("expired"), user_is("active")),
    "locked": (lock, unlock),
    "session_over": (end_sessions, leave),
    "factor_owed": (add_factor, remove_factor),
    "role_gone": (leave_staff, leave),
    "consent_gone": (withdraw, leave),
    "app_disabled": (app_is("disabled"), app_is("active")),
    "client_gone": (remove_client, put_client_back),
    "grant_gone": (without_grants, put_client_back),
}


def client_of(client_id: str, **changed: Any) -> OidcInput:
    """A client as the town has it, or with something changed."""
    desk = next(one for one in TOWN["applications"] if one["code"] == "desk")
    values = next(one for one in desk["oidc"] if one["client_id"] == client_id)
    return OidcInput.model_validate({k: v for k, v in values.items() if k != "secret"} | changed)


def seen(answer: TestResponse) -> str:
    """What a browser is shown: a page that asks for something, an error page, or the word that it carries away."""
    if answer.status_code in {302, 303}:
        back = fields(answer)
        return back.get("error") or ("yes" if "code" in back or "ticket" in back else answer.headers["Location"])
    if answer.status_code in {400, 403}:
        return "page"
    for mark, word in (('name="password"', "login"), ('name="answer"', "consent"), ('name="code"', "factor")):
        if mark in answer.text:
            return word
    found = re.search(r'name="SAMLResponse" value="([^"]+)"', answer.text)
    if found is None:
        return "yes"
    message = base64.b64decode(found[1]).decode()
    statuses = re.findall(r'StatusCode Value="[^"]*:([A-Za-z]+)"', message)
    return "yes" if statuses == ["Success"] and "Assertion" in message else statuses[-1]


def token_error(answer: TestResponse) -> str:
    return "yes" if answer.status_code == 200 else str((answer.json or {})["error"])


def agreed(party: Party, **changed: str) -> str:
    """A code, with the consent that its client may need."""
    answer = party.town.ask(party.browser, party.client, **changed)
    if 'name="answer"' in answer.text:
        answer = submit(party.browser, "/login/consent", answer, answer="agree")
    return fields(answer)["code"]


def given(party: Party, **changed: str) -> dict[str, Any]:
    answer = party.town.redeem(agreed(party, **changed), party.client)
    assert answer.status_code == 200, answer.text
    return answer.json or {}


def with_roles(claims: dict[str, Any]) -> str:
    return "yes" if claims.get("roles") else "no_roles"


Path = Callable[[Party], Callable[[], str]]


def sign_in(party: Party) -> Callable[[], str]:
    def walk() -> str:
        browser = party.town.browser()
        found = seen(browser.sign_in(party.login))
        return "no" if found == "login" else found

    return walk


def sso(party: Party) -> Callable[[], str]:
    agreed(party)
    return lambda: seen(party.town.ask(party.browser, party.client))


def silent(party: Party) -> Callable[[], str]:
    agreed(party)
    return lambda: seen(party.town.ask(party.browser, party.client, prompt="none"))


def code(party: Party) -> Callable[[], str]:
    secret = agreed(party)
    return lambda: token_error(party.town.redeem(secret, party.client))


def refresh(party: Party) -> Callable[[], str]:
    token = given(party)["refresh_token"]
    return lambda: token_error(party.town.refresh(token, party.client))


def offline(party: Party) -> Callable[[], str]:
    token = given(party, scope="openid offline_access")["refresh_token"]
    return lambda: token_error(party.town.refresh(token, party.client))


def credentials(party: Party) -> Callable[[], str]:
    return lambda: token_error(party.town.as_client(party.client, grant_type="client_credentials"))


def introspection(party: Party) -> Callable[[], str]:
    token = given(party, scope="openid desk.read", resource=DESK_API)["access_token"]

    def walk() -> str:
        auth = (quote(DESK_API, safe=""), party.town.secret)
        answer = party.town.call("POST", "/oauth/introspect", data={"token": token}, auth=auth)
        claims = answer.json or {}
        if answer.status_code != 200:
            return str(claims["error"])
        return with_roles(claims) if claims["active"] else "inactive"

    return walk


def userinfo(party: Party) -> Callable[[], str]:
    token = given(party, scope="openid roles")["access_token"]

    def walk() -> str:
        answer = party.town.userinfo(token)
        return with_roles(answer.json or {}) if answer.status_code == 200 else str(answer.status_code)

    return walk


def saml(party: Party) -> Callable[[], str]:
    def walk() -> str:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = (
            f'<p:AuthnRequest xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" ID="_{secrets.token_hex(8)}" '
            'Version="2.0" '
            f'IssueInstant="{now}" Destination="{BASE}/saml/sso">'
            f'<a:Issuer xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion">{SP}</a:Issuer></p:AuthnRequest>'
        )
        packed = base64.b64encode(zlib.compress(message.encode(), wbits=-15)).decode()
        return seen(party.browser.follow(party.browser.go(f"/saml/sso?{urlencode({'SAMLRequest': packed})}")))

    return walk


def saml_start(party: Party) -> Callable[[], str]:
    def walk() -> str:
        answer = party.browser.follow(party.browser.go("/saml/start/desk"))
        return "page" if answer.status_code == 404 else seen(answer)

    return walk


def cas(party: Party) -> Callable[[], str]:
    return lambda: seen(party.browser.follow(party.browser.go(f"/cas/login?{urlencode({'service': CAS})}")))


def console(party: Party) -> Callable[[], str]:
    party.browser.sign_in(party.login, start="/admin")
    assert seen(party.browser.go("/admin")) == "yes"
    return lambda: seen(party.browser.follow(party.browser.go("/admin")))


def decision(party: Party) -> Callable[[], str]:
    sub = party.town.sub(party.user)

    def walk() -> str:
        body = {"subject": {"type": "user", "id": sub}, "action": {"name": "read"}}
        body["resource"] = {"type": "ticket", "id": "t1"}
        answer = party.town.call("POST", "/access/v1/evaluation", json=body, auth=("desk", party.town.secret))
        if answer.status_code != 200:
            return str(answer.status_code)
        return "yes" if (answer.json or {})["decision"] else "no"

    return walk


PATHS: dict[str, Path] = {
    one.__name__: one
    for one in (
        *(sign_in, sso, silent, code, refresh, offline, credentials, introspection, userinfo),
        *(saml, saml_start, cas, console, decision),
    )
}


@pytest.fixture(scope="module")
def boss(town: Town) -> tuple[str, UUID]:
    """The one administrator of the town."""
    with town.unit() as unit:
        made_boss = bootstrap_administrator(unit, "boss", "Boss", ["system-admin"])
        authenticate.set_password(unit, made_boss, PASSWORD)
    return "boss", next(one.id for one in town.snapshot().users.values() if one.login == "boss")


@pytest.mark.case("ST-01", "ST-02", "ST-03", "ST-04", "ST-05", "ST-06", "ST-08", "MF-07", "RT-09", "SE-08")
@pytest.mark.parametrize(("given_state", "path", "expected"), CELLS, ids=lambda value: value)
def test_what_a_state_does_to_a_path(
    town: Town, boss: tuple[str, UUID], given_state: str, path: str, expected: str
) -> None:
    login, user = boss if path == "console" else town.someone()
    browser = town.browser()
    browser.sign_in(login)
    client = "desk-asking" if given_state == "consent_gone" else "desk"
    party = Party(town, login, user, browser, client)
    if given_state == "consent_gone":
        agreed(party)
    walk = PATHS[path](party)
    with state(given_state, party):
        assert walk() == expected


@pytest.mark.parametrize("path", sorted(set(PATHS) - {"console"}))
def test_every_path_is_open_while_all_is_well(town: Town, path: str) -> None:
    browser, user = town.signed_in()
    login = town.snapshot().users[user].login
    assert PATHS[path](Party(town, login, user, browser, "desk"))() == "yes"
