"""Clients that prove themselves, introspection and revocation under attack."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from sqlalchemy import text

from identity.apps.inputs import OidcInput
from identity.apps.service import get_application, put_oidc_client
from tests.security.town import DESK_API, SHOP_API, Town, error

FORM = "application/x-www-form-urlencoded"


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.mark.case("CL-01", "CL-03", "HD-01", "ST-06")
@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (basic("desk", "wrong"), {}),
        (basic("desk", ""), {}),
        (basic("nobody", "test-secret"), {}),
        (basic("desk-post", "test-secret"), {}),
        (basic("desk-native", ""), {}),
        ({}, {"client_id": "desk", "client_secret": "test-secret"}),
        ({}, {"client_id": "desk"}),
        ({}, {"client_id": "desk-native", "client_secret": "x"}),
        ({}, {"client_id": "desk-post", "client_secret": "wrong"}),
        ({}, {}),
        ({"Authorization": "Basic"}, {}),
        ({"Authorization": "Basic !!!"}, {}),
        ({"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()}, {}),
        ({"Authorization": "Bearer x"}, {}),
        ({"Authorization": "Basic " + "x" * 100_000}, {}),
    ],
)
def test_who_does_not_prove_itself_as_registered_is_no_client(
    town: Town, headers: dict[str, str], form: dict[str, str]
) -> None:
    sent = {"grant_type": "client_credentials", **form}
    for path in ("/oauth/token", "/oauth/revoke"):
        answer = town.call("POST", path, data={**sent, "token": "x"}, headers=headers)
        assert error(answer) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.case("CL-02")
def test_two_ways_of_authentication_are_one_too_many(town: Town) -> None:
    for more in ({"client_secret": town.secret}, {"client_id": "shop"}):
        form = {"grant_type": "client_credentials", **more}
        answer = town.call("POST", "/oauth/token", data=form, auth=("desk", town.secret))
        assert error(answer) == (400, "invalid_request")
    assertion = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "x",
    }
    assert error(town.as_client("desk", grant_type="client_credentials", **assertion)) == (401, "invalid_client")


@pytest.mark.case("CL-09", "CL-11")
def test_basic_credentials_are_form_encoded_and_stored_as_a_digest(town: Town) -> None:
    secret = "a:b%c+d é李"
    with town.unit() as unit:
        app = get_application(unit, "shop")
        wanted = OidcInput(client_id="shop:odd", grant_types=("client_credentials",), scopes=("shop.read",))
        put_oidc_client(unit, app, wanted, secret)
    form = {"grant_type": "client_credentials", "scope": "shop.read"}
    good = town.call("POST", "/oauth/token", data=form, headers=basic(quote("shop:odd"), quote(secret)))
    assert good.status_code == 200, good.text
    assert error(town.call("POST", "/oauth/token", data=form, headers=basic("shop:odd", secret)))[0] == 401
    with town.database.read() as connection:
        stored = connection.execute(
            text("SELECT secret_hash FROM oidc_client WHERE client_id = 'shop:odd'")
        ).scalar_one()
    assert secret.encode() not in bytes(stored)


def test_a_grant_type_that_is_not_registered_is_refused(town: Town) -> None:
    browser, _ = town.signed_in()
    assert error(town.as_client("desk-service", grant_type="authorization_code", code="x"))[1] == "unauthorized_client"
    assert error(town.as_client("desk-asking", grant_type="client_credentials"))[1] == "unauthorized_client"
    assert browser


@pytest.mark.case("IN-01", "IN-02", "IN-03", "IN-05")
def test_introspection_tells_the_audience_and_nobody_else(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, resource=DESK_API, scope="openid desk.read")
    active = town.introspect(tokens["access_token"])
    assert active["active"] is True
    assert (active["aud"], active["client_id"], active["scope"]) == (DESK_API, "desk", "desk.read")
    assert town.introspect(tokens["access_token"], SHOP_API) == {"active": False}
    for other in (tokens["refresh_token"], tokens["id_token"], "garbage", tokens["access_token"][:-4] + "AAAA"):
        assert town.introspect(other) == {"active": False}
    with town.later(seconds=301):
        assert town.introspect(tokens["access_token"]) == {"active": False}
    assert town.call("POST", "/oauth/introspect", data={"token": "x"}).status_code == 401
    nothing = town.call("POST", "/oauth/introspect", data={}, auth=("desk", town.secret))
    assert error(nothing) == (400, "invalid_request")
    large = town.call("POST", "/oauth/introspect", data={"token": "x" * 1_000_000}, auth=("desk", town.secret))
    assert large.status_code == 413


@pytest.mark.case("RV-01", "RV-02", "RV-04")
@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_a_revoked_token_takes_its_grant_along(town: Town, which: str) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, resource=DESK_API, scope="openid desk.read")
    form = {"token": tokens[which], "token_type_hint": "nonsense"}
    answer = town.call("POST", "/oauth/revoke", data=form, auth=("desk", town.secret))
    assert (answer.status_code, answer.data) == (200, b"")
    assert town.introspect(tokens["access_token"]) == {"active": False}
    assert error(town.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
    again = town.call("POST", "/oauth/revoke", data={"token": "unknown"}, auth=("desk", town.secret))
    assert again.status_code == 200
    nothing = town.call("POST", "/oauth/revoke", data={}, auth=("desk", town.secret))
    assert error(nothing) == (400, "invalid_request")


@pytest.mark.case("RV-01")
def test_a_client_revokes_its_own_credentials_token(town: Town) -> None:
    token = (town.as_client("desk-service", grant_type="client_credentials").json or {})["access_token"]
    assert town.introspect(token)["active"] is True
    town.call("POST", "/oauth/revoke", data={"token": token}, auth=("desk-service", town.secret))
    assert town.introspect(token) == {"active": False}


@pytest.mark.case("RV-03")
def test_nobody_revokes_anothers_token(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, resource=DESK_API, scope="openid desk.read")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        town.call("POST", "/oauth/revoke", data={"token": token}, auth=("shop", town.secret))
    assert town.introspect(tokens["access_token"])["active"] is True
    own = town.tokens(browser, "desk-native")
    form = {"token": own["refresh_token"], "client_id": "desk-native"}
    assert town.call("POST", "/oauth/revoke", data=form).status_code == 200
    assert error(town.refresh(own["refresh_token"], "desk-native")) == (400, "invalid_grant")


def test_a_public_client_is_never_given_client_credentials(town: Town) -> None:
    answer = town.as_client("desk-native", grant_type="client_credentials")
    assert error(answer) == (400, "unauthorized_client")
