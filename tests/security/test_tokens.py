"""The token endpoint under attack: codes and refresh tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from identity.core.secrets import new_secret
from tests.security.town import CAS, DESK, DESK_API, SHOP_API, Town, claims_of, error, fields

FORM = "application/x-www-form-urlencoded"


def at_once(count: int, act: Callable[[], TestResponse]) -> list[TestResponse]:
    """What `count` threads get that act at the same moment."""
    gate, answers = threading.Barrier(count), []

    def run() -> None:
        gate.wait()
        answers.append(act())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return answers


@pytest.mark.case("PK-03", "PK-05")
@pytest.mark.parametrize(
    ("verifier", "wanted"),
    [
        ("b" * 43, "invalid_grant"),
        (None, "invalid_grant"),
        ("b" * 42, "invalid_request"),
        ("b" * 129, "invalid_request"),
        ("b" * 42 + "!", "invalid_request"),
        ("b" * 10_000, "invalid_request"),
    ],
    ids=["other", "none", "short", "long", "illegal", "huge"],
)
def test_a_code_needs_its_verifier(town: Town, verifier: str | None, wanted: str) -> None:
    browser, user_id = town.signed_in()
    code = town.code(browser, "desk-native")
    assert error(town.redeem(code, "desk-native", code_verifier=verifier)) == (400, wanted)
    assert not town.records("oauth.token.issued", user=str(user_id))
    assert town.redeem(code, "desk-native").status_code == 200  # the owner still can


@pytest.mark.case("PK-04")
def test_a_verifier_without_a_challenge_is_a_downgrade(town: Town) -> None:
    browser, _ = town.signed_in()
    code = town.code(browser, code_challenge=None, code_challenge_method=None)
    assert error(town.redeem(code)) == (400, "invalid_grant")
    assert town.redeem(code, code_verifier=None).status_code == 200


@pytest.mark.case("TK-01", "TK-04")
def test_a_secret_counts_only_as_what_it_is(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser)
    service = browser.follow(browser.go(f"/cas/login?service={quote(CAS)}"))
    ticket = service.headers["Location"].partition("ticket=")[2]
    code = town.code(browser)
    for wrong in (ticket, tokens["refresh_token"], tokens["access_token"], tokens["id_token"], new_secret("code")):
        assert error(town.redeem(wrong)) == (400, "invalid_grant")
    for wrong in (code[:-1], code + "=", code.swapcase(), code + "\u00e9"):
        assert error(town.redeem(wrong)) == (400, "invalid_grant")
    for wrong in (code, ticket, tokens["access_token"]):
        assert error(town.refresh(wrong)) == (400, "invalid_grant")
    cas = town.call("GET", f"/cas/serviceValidate?service={quote(CAS)}&ticket={code}")
    assert "INVALID_TICKET" in cas.text
    assert town.redeem(code).status_code == 200


@pytest.mark.case("TK-05", "TK-08")
def test_a_code_lives_a_minute_whoever_cleans_up(town: Town) -> None:
    browser, _ = town.signed_in()
    early, late = town.code(browser), town.code(browser)
    with town.later(seconds=55):
        assert town.redeem(early).status_code == 200
    with town.later(seconds=61):
        assert error(town.redeem(late)) == (400, "invalid_grant")


@pytest.mark.case("TK-06")
@pytest.mark.parametrize("after_s", [0, 30, 90])
def test_a_replayed_code_ends_what_its_first_use_gave(town: Town, after_s: int) -> None:
    browser, user_id = town.signed_in()
    code = town.code(browser, resource=DESK_API, scope="openid desk.read")
    first = town.redeem(code).json or {}
    assert town.introspect(first["access_token"])["active"] is True
    with town.later(seconds=after_s):
        assert error(town.redeem(code)) == (400, "invalid_grant")
        assert town.introspect(first["access_token"]) == {"active": False}
        assert error(town.refresh(first["refresh_token"])) == (400, "invalid_grant")
    assert len(town.records("oauth.token.issued", user=str(user_id))) == 1
    assert town.records("oauth.token.revoked", user=str(user_id), reason="replay")


@pytest.mark.case("TK-07", "RF-10")
def test_of_fifty_redemptions_at_once_one_gets_tokens_which_then_die(town: Town) -> None:
    browser, user_id = town.signed_in()
    code = town.code(browser)
    answers = at_once(50, lambda: town.redeem(code))
    assert {one.status_code for one in answers} <= {200, 400}
    winners = [one.json or {} for one in answers if one.status_code == 200]
    assert len(winners) == 1
    assert town.userinfo(winners[0]["access_token"]).status_code == 401
    assert error(town.refresh(winners[0]["refresh_token"])) == (400, "invalid_grant")
    assert len(town.records("oauth.token.issued", user=str(user_id))) == 1


@pytest.mark.case("TK-09", "TK-10", "TK-11", "OA-07", "DO-01", "DO-04", "HD-02")
@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        ("", FORM, (400, "invalid_request")),
        ("grant_type=", FORM, (400, "invalid_request")),
        ("grant_type=password&username=a&password=b", FORM, (400, "unsupported_grant_type")),
        ("grant_type=urn:ietf:params:oauth:grant-type:device_code", FORM, (400, "unsupported_grant_type")),
        ("grant_type=authorization_code", FORM, (400, "invalid_request")),
        ("grant_type=refresh_token", FORM, (400, "invalid_request")),
        ('{"grant_type": "client_credentials"}', "application/json", (400, "invalid_request")),
        ("grant_type=client_credentials", "text/plain", (400, "invalid_request")),
        ("grant_type=client_credentials&grant_type=client_credentials", FORM, (400, "invalid_request")),
        ("grant_type=client_credentials&a=%00", FORM, (400, "invalid_request")),
        ("grant_type=client_credentials&a=%ff", FORM, (400, "invalid_request")),
        (b"grant_type=client_credentials&a=\xff", FORM, (400, "invalid_request")),
        ("a=" + "&b=" * 1_500, FORM, (400, "invalid_request")),
        ("grant_type=client_credentials&a=" + "x" * 70_000, FORM, (413, "invalid_request")),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_malformed_token_request(town: Town, body: str | bytes, kind: str, wanted: tuple[int, str]) -> None:
    answer = town.call("POST", "/oauth/token", data=body, content_type=kind, auth=("desk", town.secret))
    assert error(answer) == wanted
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.case("TK-09")
def test_the_token_endpoint_takes_posts_only_and_reads_no_query(town: Town) -> None:
    answer = town.call("GET", "/oauth/token?grant_type=client_credentials", auth=("desk", town.secret))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    answer = town.call("POST", "/oauth/token?grant_type=client_credentials", auth=("desk", town.secret))
    assert error(answer) == (400, "invalid_request")


@pytest.mark.case("TK-12")
def test_secrets_have_256_bits_and_their_type_in_front() -> None:
    made = {new_secret("rt") for _ in range(10_000)}
    assert len(made) == 10_000
    assert all(one.startswith("rt_") and len(one) == 46 for one in made)


@pytest.mark.case("RU-16")
def test_the_redirect_uri_of_the_token_request_is_that_of_the_authorization(town: Town) -> None:
    browser, _ = town.signed_in()
    code = town.code(browser)
    assert error(town.redeem(code, redirect_uri=f"{DESK}/query?x=1")) == (400, "invalid_grant")
    assert error(town.redeem(code, redirect_uri=None)) == (400, "invalid_request")
    assert town.redeem(code).status_code == 200


@pytest.mark.case("RT-02")
def test_a_rotated_refresh_token_that_comes_again_ends_the_family(town: Town) -> None:
    browser, user_id = town.signed_in()
    first = town.tokens(browser)
    second = town.refresh(first["refresh_token"]).json or {}
    with town.later(seconds=11):
        assert error(town.refresh(first["refresh_token"])) == (400, "invalid_grant")
        assert error(town.refresh(second["refresh_token"])) == (400, "invalid_grant")
    assert town.records("oauth.token.revoked", user=str(user_id), reason="replay")


@pytest.mark.case("RT-03")
def test_a_lost_answer_is_repeated_within_ten_seconds(town: Town) -> None:
    browser, _ = town.signed_in()
    first = town.tokens(browser)
    second = town.refresh(first["refresh_token"]).json or {}
    with town.later(seconds=9):
        again = town.refresh(first["refresh_token"]).json or {}
        assert again["refresh_token"] == second["refresh_token"]
        assert town.refresh(second["refresh_token"]).status_code == 200


@pytest.mark.case("RT-04", "RF-10")
def test_twenty_refreshes_at_once_leave_one_family_that_lives(town: Town) -> None:
    browser, user_id = town.signed_in()
    first = town.tokens(browser)
    answers = at_once(20, lambda: town.refresh(first["refresh_token"]))
    assert {one.status_code for one in answers} == {200}
    followers = {(one.json or {})["refresh_token"] for one in answers}
    assert len(followers) == 1
    assert town.refresh(followers.pop()).status_code == 200
    assert not town.records("oauth.token.revoked", user=str(user_id))


@pytest.mark.case("RT-05", "RT-07")
def test_a_refresh_token_is_its_clients(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser)
    assert error(town.refresh(tokens["refresh_token"], "desk-asking")) == (400, "invalid_grant")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "desk"}
    assert error(town.call("POST", "/oauth/token", data=form)) == (401, "invalid_client")
    assert town.refresh(tokens["refresh_token"]).status_code == 200


@pytest.mark.case("RT-06")
def test_a_refresh_may_ask_for_less_but_not_for_more(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, scope="openid roles")
    assert error(town.refresh(tokens["refresh_token"], scope="openid email")) == (400, "invalid_scope")
    less = town.refresh(tokens["refresh_token"], scope="openid").json or {}
    assert less["scope"] == "openid"
    assert (town.refresh(less["refresh_token"]).json or {})["scope"] == "openid roles"


@pytest.mark.case("RT-10", "SE-03")
def test_a_refresh_token_ends_when_idle_and_at_the_end_of_the_session(town: Town) -> None:
    browser, _ = town.signed_in()
    online = town.tokens(browser)["refresh_token"]
    with town.later(hours=9):
        online = (town.refresh(online).json or {})["refresh_token"]
    with town.later(hours=10, seconds=1):
        assert error(town.refresh(online)) == (400, "invalid_grant")
    offline = idle = town.tokens(browser, scope="openid offline_access")["refresh_token"]
    for days in (6, 12, 18, 24, 29):
        with town.later(days=days):
            offline = (town.refresh(offline).json or {})["refresh_token"]
    with town.later(days=30, seconds=1):
        assert error(town.refresh(offline)) == (400, "invalid_grant")
    with town.later(days=7, seconds=1):
        assert error(town.refresh(idle)) == (400, "invalid_grant")


@pytest.mark.case("OA-33")
def test_a_token_is_for_one_audience_and_holds_only_its_scopes(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, scope="openid desk.read shop.read", resource=SHOP_API)
    access = claims_of(tokens["access_token"])
    assert (access["aud"], access["scope"], tokens["scope"]) == (SHOP_API, "shop.read", "shop.read")
    assert access["roles"] == ["buyer"]
    refused = town.refresh(tokens["refresh_token"], resource=DESK_API)
    assert error(refused) == (400, "invalid_target")
    assert town.userinfo(tokens["access_token"]).status_code == 401
    unknown = town.as_client("desk", grant_type="client_credentials", resource="https://unknown.example/")
    assert error(unknown) == (400, "invalid_target")


def test_a_code_of_another_client_is_worth_nothing(town: Town) -> None:
    browser, _ = town.signed_in()
    code = fields(town.ask(browser))["code"]
    assert error(town.redeem(code, "desk-asking")) == (400, "invalid_grant")
    assert town.redeem(code).status_code == 200
