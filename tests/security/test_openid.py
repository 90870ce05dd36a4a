"""OpenID Connect as clients use it: Authlib's, one on joserfc that believes nothing, logout in both directions."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

import httpx
import orjson
import pytest
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select

from identity.apps.service import get_application, put_oidc_client
from identity.events.deliver import Composers, deliver_due
from identity.events.models import OutboxMessage
from identity.people.inputs import Profile
from identity.people.service import update_profile
from tests.security.test_states import client_of
from tests.security.town import BACK, BASE, BYE, DESK_API, Town, claims_of, fields, form_of, submit


def discovery(town: Town) -> dict[str, Any]:
    return town.call("GET", "/.well-known/openid-configuration").json or {}


def verified(town: Town, token: str) -> dict[str, Any]:
    """The claims of an ID token for `desk`, checked as OpenID Connect Core §3.1.3.7 says, with keys by discovery."""
    metadata = discovery(town)
    path = metadata["jwks_uri"].removeprefix(BASE)
    keys = KeySet.import_key_set(town.call("GET", path).json)
    read = jwt.decode(token, keys, algorithms=metadata["id_token_signing_alg_values_supported"])
    rules = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": metadata["issuer"]},
        aud={"essential": True, "value": "desk"},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    rules.validate(read.claims)
    assert read.header["typ"] == "JWT"
    return dict(read.claims)


@pytest.mark.case("OI-01")
def test_the_metadata_lists_what_is_there_and_nothing_else(town: Town) -> None:
    metadata = discovery(town)
    assert metadata["issuer"] == BASE
    assert metadata["authorization_response_iss_parameter_supported"] is True
    algorithms = metadata["id_token_signing_alg_values_supported"]
    assert not [one for one in algorithms if one == "none" or one.startswith("HS")]
    for name, value in metadata.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            answer = town.call("GET", value.removeprefix(BASE))
            assert answer.status_code != 404, name
    assert not {"registration_endpoint", "device_authorization_endpoint", "check_session_iframe"} & metadata.keys()
    for parameter, supported in (("request", "request_parameter"), ("request_uri", "request_uri_parameter")):
        assert metadata[f"{supported}_supported"] is False, parameter
    head = town.call("HEAD", "/.well-known/openid-configuration")
    assert (head.status_code, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) > 500


@pytest.mark.case("OI-02", "OI-12", "OI-15", "JW-16")
def test_an_id_token_stands_every_check_of_a_client(town: Town) -> None:
    browser, user_id = town.signed_in()
    tokens = town.tokens(browser, nonce="nonce-of-this-login")
    claims = verified(town, tokens["id_token"])
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert claims["nonce"] == "nonce-of-this-login"
    assert claims["sub"] == town.sub(user_id)
    assert (claims["acr"], claims["amr"]) == ("urn:tessera:acr:password", ["pwd"])
    assert abs(claims["auth_time"] - datetime.now(UTC).timestamp()) < 120
    assert claims["exp"] - claims["iat"] == 300
    known = {"iss", "aud", "sub", "exp", "iat", "at_hash", "nonce", "acr", "amr", "auth_time", "sid"}
    assert claims.keys() == known
    renewed = verified(town, (town.refresh(tokens["refresh_token"]).json or {})["id_token"])
    assert renewed["auth_time"] == claims["auth_time"]
    assert "nonce" not in renewed
    access = claims_of(tokens["access_token"])
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= access.keys()  # RFC 9068 §2.2


def test_authlibs_client_goes_the_whole_way(town: Town) -> None:
    browser, user_id = town.signed_in()
    metadata = discovery(town)
    transport = httpx.WSGITransport(town.app.extensions["tessera_edge"])
    with OAuth2Client(
        "desk",
        town.secret,
        scope="openid profile desk.read offline_access",
        redirect_uri=BACK,
        code_challenge_method="S256",
        token_endpoint=metadata["token_endpoint"],
        transport=transport,
    ) as client:
        url, state = client.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier="v" * 50, nonce="n", resource=DESK_API
        )
        back = browser.follow(browser.go(url.removeprefix(BASE))).headers["Location"]
        assert parse_qs(back.partition("?")[2])["iss"] == [metadata["issuer"]]
        token = client.fetch_token(authorization_response=back, state=state, code_verifier="v" * 50)
        assert verified(town, token["id_token"])["sub"] == town.sub(user_id)
        first = client.introspect_token(metadata["introspection_endpoint"], token=token["access_token"]).json()
        assert (first["active"], first["aud"]) == (True, DESK_API)
        renewed = client.refresh_token(metadata["token_endpoint"], refresh_token=token["refresh_token"])
        assert renewed["access_token"] != token["access_token"]
        client.revoke_token(metadata["revocation_endpoint"], token=renewed["refresh_token"])
        dead = client.introspect_token(metadata["introspection_endpoint"], token=renewed["access_token"]).json()
        assert dead == {"active": False}


@pytest.mark.case("OI-04", "OI-05", "OI-06", "OI-07", "HD-01")
def test_userinfo_takes_a_token_in_one_place(town: Town) -> None:
    browser, user_id = town.signed_in()
    token = town.tokens(browser, scope="openid roles")["access_token"]
    wanted = {"sub": town.sub(user_id), "roles": ["clerk"]}
    bearer = {"Authorization": f"Bearer {token}"}
    assert town.userinfo(token).json == wanted
    assert town.call("POST", "/oauth/userinfo", headers=bearer).json == wanted
    assert town.call("POST", "/oauth/userinfo", data={"access_token": token}).json == wanted
    assert town.call("GET", "/oauth/userinfo", headers={"Authorization": f"bearer {token}"}).json == wanted
    both = town.call("POST", "/oauth/userinfo", data={"access_token": token}, headers=bearer)
    assert (both.status_code, (both.json or {})["error"]) == (400, "invalid_request")
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer  "}, {"Authorization": "Basic eDp5"}):
        answer = town.call("GET", f"/oauth/userinfo?access_token={token}", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    for bad in ("x", token[:-5], "é", "x" * 90_000):
        answer = town.userinfo(bad)
        assert (answer.status_code, (answer.json or {})["error"]) == (401, "invalid_token")
    with town.later(seconds=301):
        assert town.userinfo(token).status_code == 401


@pytest.mark.case("OI-09", "OI-11", "OI-14")
def test_scopes_and_named_claims_give_what_is_registered_and_no_more(town: Town) -> None:
    browser, user_id = town.signed_in()
    with town.unit() as unit:
        update_profile(unit, user_id, Profile(name="Zhang San", mail="zhang@desk.example", phone="+86 1"))

    def info(scope: str, **asked: str) -> dict[str, Any]:
        tokens = town.tokens(browser, scope=scope, **asked)
        return {"id_token": claims_of(tokens["id_token"]), "userinfo": town.userinfo(tokens["access_token"]).json or {}}

    email = info("openid email nonsense")["userinfo"]
    assert email == {"sub": town.sub(user_id), "email": "zhang@desk.example", "email_verified": False}
    assert info("openid phone")["userinfo"].keys() == {"sub", "phone_number"}
    assert info("openid profile")["userinfo"].keys() == {"sub", "name", "preferred_username"}
    wanted = {
        "userinfo": {"email": {"essential": True}, "birthdate": None, "sub": None},
        "id_token": {"name": {"essential": True}, "auth_time": {"essential": True}},
    }
    got = info("openid", claims=orjson.dumps(wanted).decode())
    assert got["userinfo"] == {"sub": town.sub(user_id), "email": "zhang@desk.example"}
    assert got["id_token"]["name"] == "Zhang San"
    assert "email" not in got["id_token"]


def test_whom_the_client_expects_is_who_comes_or_nobody(town: Town) -> None:
    browser, user_id = town.signed_in()
    other, _ = town.signed_in()
    hint = town.tokens(browser)["id_token"]
    for name, value in (("id_token_hint", hint), ("claims", _sub(town.sub(user_id)))):
        assert fields(town.ask(browser, prompt="none", **{name: value}))["code"]
        assert fields(town.ask(other, prompt="none", **{name: value}))["error"] == "login_required"
        assert fields(town.ask(other, **{name: value}))["error"] == "login_required"
    assert fields(town.ask(browser, claims=_sub("unknown")))["error"] == "login_required"
    with town.later(days=1):
        again = town.ask(browser, id_token_hint=hint)
        assert 'name="password"' in again.text  # an old hint is still a hint


def _sub(value: str) -> str:
    return orjson.dumps({"id_token": {"sub": {"value": value}}}).decode()


@pytest.mark.case("LO-01", "LO-05", "LO-07")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_signs_the_person_out_and_gets_the_browser_back(town: Town, method: str) -> None:
    browser, _ = town.signed_in()
    hint = town.tokens(browser)["id_token"]
    query = {"id_token_hint": hint, "post_logout_redirect_uri": BYE, "state": "s 1", "client_id": "desk"}
    if method == "GET":
        answer = browser.go(f"/oauth/logout?{urlencode(query)}")
    else:
        cross = {"Origin": "https://desk.example", "Sec-Fetch-Site": "cross-site"}
        stranger = town.browser()  # a cross-site POST comes without the session's cookie
        answer = stranger.client.post("/oauth/logout", data=query, base_url=BASE, headers=cross)
        assert (answer.status_code, hint in answer.headers["Location"]) == (303, False)
        for one in ("tx-" + answer.headers["Location"].partition("tx=")[2],):
            kept = stranger.client.get_cookie(f"tessera_demo_{one}", "localhost")
            assert kept is not None
            browser.client.set_cookie(f"tessera_demo_{one}", kept.value, domain="localhost")
        answer = browser.go(answer.headers["Location"])
    assert answer.headers["Location"] == f"{BYE}?state=s+1"
    assert fields(town.ask(browser, prompt="none"))["error"] == "login_required"


@pytest.mark.case("LO-02", "LO-03", "LO-10", "CS-03")
def test_a_logout_that_proves_nothing_only_asks(town: Town) -> None:
    browser, _ = town.signed_in()
    other, _ = town.signed_in()
    own, others = (town.tokens(one)["id_token"] for one in (browser, other))
    login, _ = town.someone()
    earlier = town.browser()
    earlier.sign_in(login)
    old = town.tokens(earlier)["id_token"]
    submit(earlier, "/logout", earlier.go("/logout"))
    earlier.sign_in(login)
    town.tokens(earlier)
    for who, query in (
        (browser, {}),
        (browser, {"post_logout_redirect_uri": BYE}),
        (browser, {"client_id": "desk", "post_logout_redirect_uri": BYE}),
        (browser, {"id_token_hint": own, "post_logout_redirect_uri": f"{BYE}?x=1"}),
        (browser, {"id_token_hint": own, "post_logout_redirect_uri": "https://evil.example/"}),
        (browser, {"id_token_hint": own, "client_id": "shop"}),
        (browser, {"id_token_hint": others}),
        (browser, {"id_token_hint": "x"}),
        (earlier, {"id_token_hint": old}),
    ):
        answer = who.go(f"/oauth/logout?{urlencode(query)}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/logout"), query
        assert fields(town.ask(who, prompt="none"))["code"]
    assert form_of(browser.go("/logout"))["csrf_token"]


class Receiver(BaseHTTPRequestHandler):
    """A client's back-channel logout endpoint."""

    got: ClassVar[list[str]] = []
    status: ClassVar[int] = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.got.append(parse_qs(body)["logout_token"][0])
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def listening() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/bcl"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.case("LO-08", "RF-31")
def test_every_client_of_the_session_is_told_and_one_that_is_down_holds_up_nobody(town: Town) -> None:
    browser, user_id = town.signed_in()
    composers = town.things[Composers]
    Receiver.got.clear()
    with listening() as address:
        with town.unit() as unit:
            put_oidc_client(unit, get_application(unit, "desk"), client_of("desk", backchannel_logout_uri=address))
            dead = client_of("desk-post", backchannel_logout_uri="http://127.0.0.1:9/bcl")
            put_oidc_client(unit, get_application(unit, "desk"), dead)
        tokens = town.tokens(browser)
        submit(browser, "/logout", browser.go("/logout"))
        with town.later(minutes=20), town.unit() as unit:
            now = unit.now
        assert deliver_due(town.units, now, composers) == 1  # late, and still with a token that is good
        assert deliver_due(town.units, now, composers) == 0
        claims = jwt.decode(Receiver.got[0], KeySet.import_key_set(town.call("GET", "/oauth/jwks").json))
        assert claims.header["typ"] == "logout+jwt"
        found = claims.claims
        assert (found["iss"], found["aud"], found["sub"]) == (BASE, "desk", town.sub(user_id))
        assert found["sid"] == claims_of(tokens["id_token"])["sid"]
        assert found["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
        assert found["exp"] - found["iat"] <= 120
        assert abs(found["iat"] - now.timestamp()) < 5
        assert {"jti"} <= found.keys()
        assert "nonce" not in found
        Receiver.status = 302
        try:
            again = town.browser()
            login, _ = town.someone()
            again.sign_in(login)
            town.tokens(again)
            submit(again, "/logout", again.go("/logout"))
            with town.unit() as unit:
                later = unit.now
            assert deliver_due(town.units, later, composers) == 0
            assert len(Receiver.got) == 2  # a redirect is not followed
            Receiver.status = 400
            with town.later(minutes=1), town.unit() as unit:
                later = unit.now
            deliver_due(town.units, later, composers)
        finally:
            Receiver.status = 200
    with town.database.read() as connection:
        states = connection.execute(select(OutboxMessage.destination, OutboxMessage.state)).all()
    assert sorted(state for destination, state in states if destination == address) == ["delivered", "failed"]
    assert {state for destination, state in states if destination != address} == {"waiting"}
