"""The authorization endpoint under attack (RFC 6749 §4.1, OpenID Connect Core §3.1.2, RFC 9700)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
import pytest
from werkzeug.test import TestResponse

from tests.security.town import BACK, BASE, CAS, DESK, SHOP_API, Town, claims_of, fields, form_of, submit


def is_page(answer: TestResponse) -> bool:
    """Whether this is an error page of ours that sends the browser nowhere."""
    return answer.status_code == 400 and "Location" not in answer.headers and "text/html" in answer.content_type


@pytest.mark.case("OA-01")
@pytest.mark.parametrize(
    "query", ["", "client_id=&", "client_id=unknown&", "client_id=desk%00&", "client_id=desk-service&"]
)
def test_a_client_that_is_not_known_or_has_no_code_grant_gets_a_page(town: Town, query: str) -> None:
    answer = town.call("GET", f"/oauth/authorize?{query}{urlencode({'redirect_uri': BACK, 'response_type': 'code'})}")
    assert is_page(answer)


@pytest.mark.case("OA-02", "OA-03", "OA-06", "OA-09", "OA-12", "OA-18", "OA-26", "OA-27", "OA-33", "PK-01")
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "foo"}, "unsupported_response_type"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token token"}, "unsupported_response_type"),
        ({"response_type": "code id_token", "nonce": None}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "sudo"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "abc"}, "invalid_request"),
        ({"max_age": "٣"}, "invalid_request"),
        ({"request": "eyJ.e30."}, "request_not_supported"),
        ({"request": "eyJ.e30.", "request_uri": "https://desk.example/r"}, "request_not_supported"),
        ({"request_uri": "http://169.254.169.254/"}, "request_uri_not_supported"),
        ({"request_uri": "file:///etc/passwd"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"resource": "https://unknown.example/"}, "invalid_target"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "root"}, "invalid_scope"),
        ({"scope": "openid " + "x" * 3_000}, "invalid_scope"),
        ({"nonce": "n" * 600}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": None, "nonce": None}, "invalid_request"),
        ({"code_challenge": None, "scope": "roles"}, "invalid_request"),
        ({"client_id": "desk-native", "code_challenge": None}, "invalid_request"),
        ({"id_token_hint": "not.a.token"}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"id_token": 1}'}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": {"values": 5}}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"x": ' + "[" * 60 + "]" * 60 + "}}"}, "invalid_request"),
    ],
    ids=lambda value: orjson.dumps(value).decode()[:40] if isinstance(value, dict) else value,
)
def test_what_is_wrong_with_a_proven_client_is_told_at_its_redirect_uri(
    town: Town, changed: dict[str, str | None], error: str
) -> None:
    answer = town.ask(town.browser(), **changed)  # type: ignore[arg-type]
    back = fields(answer)
    assert answer.headers["Location"].startswith(BACK)
    assert (back["error"], back["state"], back["iss"]) == (error, "s-1", BASE)
    assert "code" not in back
    assert town.records("oauth.authorization.refused", reason=error, application="desk")


@pytest.mark.case("OA-04", "OA-33")
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("client_id", None),
        ("redirect_uri", None),
        ("state", "invalid_request"),
        ("scope", "invalid_request"),
        ("code_challenge", "invalid_request"),
        ("resource", "invalid_target"),
    ],
)
def test_a_repeated_parameter_is_refused(town: Town, name: str, error: str | None) -> None:
    query = [("client_id", "desk"), ("redirect_uri", BACK), ("response_type", "code"), ("scope", "openid")]
    query += [("state", "s"), ("code_challenge", "c" * 43), ("resource", SHOP_API)]
    answer = town.call("GET", f"/oauth/authorize?{urlencode([*query, (name, 'second')])}")
    assert is_page(answer) if error is None else fields(answer)["error"] == error
    assert error is None or name == "state" or fields(answer)["state"] == "s"


@pytest.mark.case("OA-05", "OA-11", "OA-23")
@pytest.mark.parametrize("state", ["x" * 1_024, "ü€ 李", "\"'<>&=%20+", "a b"])
def test_state_comes_back_as_it_was_and_unknown_parameters_do_not_matter(town: Town, state: str) -> None:
    browser, _ = town.signed_in()
    back = fields(town.ask(browser, state=state, nonce="n" * 64, foo="bar", display="popup", ui_locales="../../x"))
    assert (back["state"], back["iss"]) == (state, BASE)
    assert back["code"].startswith("code_")


@pytest.mark.case("OA-08", "CS-02", "OA-10")
def test_a_posted_request_is_kept_and_answered_303_without_reading_the_session(town: Town) -> None:
    browser, _ = town.signed_in()
    form = {"client_id": "desk", "redirect_uri": BACK, "response_type": "code", "scope": "openid", "state": "s"}
    form |= {"code_challenge": "c" * 43, "code_challenge_method": "S256"}
    answer = browser.client.post(
        "/oauth/authorize", data=form, base_url=BASE, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/oauth/resume?tx=")
    assert fields(browser.follow(answer))["code"]


@pytest.mark.case("OA-13")
def test_without_openid_there_is_no_id_token_and_no_userinfo(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, scope="roles")
    assert "id_token" not in tokens
    assert town.userinfo(tokens["access_token"]).status_code == 403


@pytest.mark.case("OA-14", "OA-15", "OA-24")
def test_prompt_none_shows_nothing(town: Town) -> None:
    assert fields(town.ask(town.browser(), prompt="none"))["error"] == "login_required"
    browser, _ = town.signed_in()
    assert fields(town.ask(browser, "desk-asking", prompt="none"))["error"] == "consent_required"
    assert fields(town.ask(browser, prompt="none"))["code"]


@pytest.mark.case("OA-17", "OA-18")
@pytest.mark.parametrize(
    "asked", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}, {"max_age": "1"}]
)
def test_a_fresh_sign_in_is_asked_for_and_its_time_is_told(town: Town, asked: dict[str, str]) -> None:
    login, _ = town.someone()
    browser = town.browser()
    browser.sign_in(login)
    before = town.tokens(browser)
    with town.later(seconds=5):
        page = town.ask(browser, **asked)
        assert 'name="password"' in page.text
        back = fields(submit(browser, "/login", page, login=login, password="correct horse battery"))
        after = town.redeem(back["code"]).json or {}
    old, new = (claims_of(one["id_token"]) for one in (before, after))
    assert new["auth_time"] >= old["auth_time"] + 5
    assert (new["sub"], new["sid"]) == (old["sub"], old["sid"])


@pytest.mark.case("OA-20", "OI-18")
def test_a_context_that_cannot_be_met_is_an_error_only_where_it_is_essential(town: Town) -> None:
    browser, _ = town.signed_in()
    wanted = {"id_token": {"acr": {"essential": True, "values": ["urn:other:gold"]}}}
    back = fields(town.ask(browser, claims=orjson.dumps(wanted).decode()))
    assert back["error"] == "unmet_authentication_requirements"
    tokens = town.tokens(browser, acr_values="urn:other:gold")
    assert claims_of(tokens["id_token"])["acr"] == "urn:tessera:acr:password"
    assert claims_of(tokens["id_token"])["amr"] == ["pwd"]


@pytest.mark.case("OA-21", "EN-05")
def test_what_a_request_brings_is_escaped_and_tells_nothing(town: Town) -> None:
    nasty = '"><script>alert(1)</script>'
    page = town.ask(town.browser(), state=nasty, nonce=nasty, login_hint=nasty, ui_locales=nasty, display=nasty)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    login, _ = town.someone()
    known, unknown = (town.ask(town.browser(), login_hint=hint) for hint in (login, "n" + login[1:]))
    assert len(known.text) == len(unknown.text)


@pytest.mark.case("OA-25", "OI-19")
def test_who_says_no_is_taken_at_his_word(town: Town) -> None:
    browser, _ = town.signed_in()
    page = town.ask(browser, "desk-asking", scope="openid email")
    assert "Desk" in page.text or "服务台" in page.text
    assert fields(submit(browser, "/login/consent", page, answer="deny"))["error"] == "access_denied"


@pytest.mark.case("OA-28", "OA-29")
def test_a_long_query_is_refused_and_pages_cannot_be_framed(town: Town) -> None:
    assert town.call("GET", f"/oauth/authorize?client_id=desk&x={'y' * 9_000}").status_code == 414
    page = town.ask(town.browser())
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"


@pytest.mark.case("OA-30", "OI-14")
def test_a_scope_that_is_not_the_clients_is_never_granted(town: Town) -> None:
    browser, _ = town.signed_in()
    answer = town.ask(browser, "shop", redirect_uri="https://shop.example/cb", scope="openid email admin shop.read")
    tokens = town.redeem(fields(answer)["code"], "shop", redirect_uri="https://shop.example/cb").json or {}
    assert tokens["scope"] == "openid shop.read"


@pytest.mark.case("OA-30")
def test_a_person_without_a_role_in_the_application_is_refused(town: Town) -> None:
    browser, user_id = town.signed_in("leads")
    assert fields(town.ask(browser))["error"] == "access_denied"
    assert town.records("login.application.refused", user=str(user_id))


@pytest.mark.case("OA-32", "FL-01")
def test_a_login_belongs_to_the_browser_that_began_it(town: Town) -> None:
    first, second = town.browser(), town.browser()
    form = form_of(town.ask(first))
    for path in (f"/login?tx={form['tx']}", f"/oauth/resume?tx={form['tx']}", f"/login/totp?tx={form['tx']}"):
        assert is_page(second.go(path))
    town.ask(second, "desk-post")
    own = form_of(town.ask(second, "desk-post"))
    login, _ = town.someone()
    data = {"tx": form["tx"], "csrf_token": own["csrf_token"], "login": login, "password": "correct horse battery"}
    assert is_page(second.client.post("/login", data=data, base_url=BASE))


NASTY_REDIRECTS = [
    "https://desk.example.evil.com/cb",
    "https://desk.example@evil.com/cb",
    f"https://evil.com/{BACK}",
    f"{BACK}/",
    f"{BACK}/more",
    f"{DESK}//cb",
    f"{BACK}?y=2",
    f"{DESK}/query",
    f"{DESK}/query?x=1&y=2",
    f"{DESK}/query?x=2",
    f"{BACK}#fragment",
    "https://deskXexample/cb",
    f"{DESK}/%252fcb",
    f"{DESK}/%c0%afcb",
    f"{BACK}%00",
    f"{BACK}\t",
    f"{BACK}\r\nSet-Cookie: a=b",
    "https://DESK.example/cb",
    f"{DESK}/CB",
    "http://localhost:80@evil.test/cb",
    "http://127.0.0.1.evil.test/cb",
    "http://[::1]@evil/cb",
    "http://[::1/cb",
    "http://127.0.0.1:80@evil/cb",
    "http://127.0.0.1:99999/cb",
    "http://127.0.0.1:8\t0/cb",
    "http://localhost:5000/cb",
    "https://127.0.0.1:5000/cb",
    "https://desk.example\\@evil/cb",
    "https:\\\\evil",
    "//evil",
    "javascript:alert(1)",
    "com.example.desk:/other",
    "",
]


@pytest.mark.case("RU-01", "RU-03", "RU-04", "RU-06", "RU-07", "RU-08", "RU-09", "RU-10", "RU-14", "RU-17")
@pytest.mark.parametrize("address", NASTY_REDIRECTS, ids=ascii)
@pytest.mark.parametrize(
    "also", [{}, {"response_type": "foo", "prompt": "none", "scope": "root"}], ids=["", "also bad"]
)
def test_no_browser_is_ever_sent_to_an_address_that_is_not_registered(
    town: Town, address: str, also: dict[str, str]
) -> None:
    for client_id in ("desk", "desk-native"):
        assert is_page(town.ask(town.browser(), client_id, redirect_uri=address, **also))


@pytest.mark.case("RU-04", "RU-11")
@pytest.mark.parametrize(
    ("client_id", "address"),
    [
        ("desk", f"{DESK}/query?x=1"),
        ("desk-native", "http://127.0.0.1:49152/cb"),
        ("desk-native", "http://[::1]:49152/cb"),
        ("desk-native", "http://127.0.0.1/cb"),
        ("desk-native", "com.example.desk:/cb"),
    ],
)
def test_a_registered_address_is_gone_to(town: Town, client_id: str, address: str) -> None:
    answer = town.ask(town.browser(), client_id, redirect_uri=address, prompt="none")
    assert answer.headers["Location"].startswith(address)
    assert fields(answer)["error"] == "login_required"


@pytest.mark.case("OI-20")
def test_a_native_client_asks_the_person_each_time(town: Town) -> None:
    browser, _ = town.signed_in()
    for _ in range(2):
        page = town.ask(browser, "desk-native", redirect_uri="http://127.0.0.1:50000/cb")
        assert 'name="answer"' in page.text
        assert fields(submit(browser, "/login/consent", page, answer="agree"))["code"]
    answer = town.ask(browser, "desk-native", redirect_uri="http://127.0.0.1:50000/cb", prompt="none")
    assert fields(answer)["error"] == "consent_required"


@pytest.mark.case("RL-01", "RL-02")
@pytest.mark.parametrize(
    "value",
    [
        "//evil",
        "/\\evil",
        "https:evil",
        "\\/\\/evil",
        "/..//evil",
        "https://evil/",
        "javascript:alert(1)",
        "/a\tb",
        "/a\\b",
    ],
)
def test_where_to_go_next_stays_on_this_server(town: Town, value: str) -> None:
    login, _ = town.someone()
    browser = town.browser()
    page = browser.follow(browser.go(f"/portal/enter?{urlencode({'next': value})}"))
    data = {**form_of(page), "login": login, "password": "correct horse battery"}
    answer = browser.client.post("/login", data=data, base_url=BASE)
    while answer.status_code == 303 and answer.headers["Location"].startswith("/portal/resume"):
        answer = browser.go(answer.headers["Location"])
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    switched = submit(browser, "/language", browser.go("/account"), lang="en", next=value)
    assert switched.request.path == "/"


@pytest.mark.case("CA-05", "RL-01")
def test_an_unregistered_service_is_never_returned_to(town: Town) -> None:
    for service in ("https://evil.example/", f"{CAS}/../x", "//evil", f"{CAS}\\@evil"):
        assert is_page(town.call("GET", f"/cas/login?{urlencode({'service': service})}"))


@pytest.mark.case("HD-02")
@pytest.mark.parametrize(
    "query", ["client_id=%00", "client_id=%ff", "client_id=desk&state=%c3%28", "%", "a=" + "&b=" * 1_200]
)
def test_malformed_encoding_is_a_page(town: Town, query: str) -> None:
    for method in ("GET", "POST"):
        if method == "GET":
            answer = town.call("GET", f"/oauth/authorize?{query}")
        else:
            answer = town.call("POST", "/oauth/authorize", data=query, content_type="application/x-www-form-urlencoded")
        assert is_page(answer)


def test_the_answer_says_which_server_it_comes_from(town: Town) -> None:
    browser, _ = town.signed_in()
    location = town.ask(browser).headers["Location"]
    assert parse_qs(urlsplit(location).query)["iss"] == [BASE]
