"""Signing in, sessions and forms under attack."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from identity.core.errors import Invalid, Unavailable
from identity.login import authenticate
from identity.login.models import LocalPassword, LoginFailure, LoginSession
from identity.people.service import set_user_state
from tests.security.town import BASE, DESK_API, PASSWORD, Town, fields, form_of, submit
from tests.world import Browser


def try_password(town: Town, login: str, password: str = "wrong", address: str | None = None) -> TestResponse:
    browser = town.browser()
    page = browser.follow(browser.go("/"))
    environ = {"REMOTE_ADDR": address} if address else {}
    data = {**form_of(page), "login": login, "password": password}
    return browser.client.post("/login", data=data, base_url=BASE, environ_overrides=environ)


def refused(answer: TestResponse) -> bool:
    return answer.status_code == 200 and "is not right" in answer.text


def failures(town: Town, login: str, address: str, count: int) -> None:
    """So many failed sign-ins a moment ago."""
    with town.database.write() as connection:
        for _ in range(count):
            authenticate.count_failure(connection, login, address, datetime.now(UTC))


def counted(town: Town, login: str) -> int:
    with town.database.read() as connection:
        wanted = LoginFailure.key == authenticate.failure_keys(login, "")[0]
        return connection.execute(select(LoginFailure.count).where(wanted)).scalar_one()


def cookie(browser: Browser, name: str = "sid") -> str:
    found = browser.client.get_cookie(f"tessera_demo_{name}", "localhost")
    return found.value if found else ""


@pytest.mark.case("EN-01")
def test_every_failed_sign_in_looks_the_same(town: Town) -> None:
    known, _ = town.someone()
    disabled, gone = town.someone()
    waiting, _ = town.someone()
    with town.unit() as unit:
        set_user_state(unit, gone, "disabled", cause="test")
    failures(town, waiting, "192.0.2.1", authenticate.LOGIN_FREE + 6)
    answers = [
        try_password(town, login, password)
        for login, password in (("q" + known[1:], "x"), (known, "x"), (disabled, PASSWORD), (waiting, PASSWORD))
    ]

    def plain(answer: TestResponse) -> tuple[int, list[str], str]:
        hidden = re.sub(r'name="(csrf_token|tx|login)" value="[^"]*"|value="[a-z0-9]{11}"', "", answer.text)
        names = sorted(name for name, _ in answer.headers if name != "X-Request-ID")
        return answer.status_code, names, hidden

    assert [plain(one) for one in answers] == [plain(answers[0])] * 4
    reasons = [town.records("login.session.refused")[-4 + n]["reason"] for n in range(4)]
    assert reasons == ["unknown_user", "wrong_password", "user_inactive", "blocked"]


@pytest.mark.case("BF-03", "BF-05", "BF-07")
def test_all_spellings_of_a_login_share_one_counter_whose_wait_is_short(town: Town) -> None:
    login, _ = town.someone()
    for spelling in (login, login.upper(), f"  {login} ", f"\uff50{login[1:]}", login.title()):
        assert refused(try_password(town, spelling))
    assert counted(town, login) == authenticate.LOGIN_FREE
    failures(town, login, "192.0.2.1", 6)
    assert refused(try_password(town, login, PASSWORD))
    with town.later(seconds=authenticate.DELAY_MAX_S + 1):
        assert try_password(town, login, PASSWORD).status_code == 303


@pytest.mark.case("BF-04")
def test_failures_at_once_are_all_counted(town: Town) -> None:
    login, _ = town.someone()
    threads = [threading.Thread(target=failures, args=(town, login, "192.0.2.7", 1)) for _ in range(40)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counted(town, login) == 40
    with town.later(seconds=authenticate.DELAY_MAX_S - 20):
        assert refused(try_password(town, login, PASSWORD))


@pytest.mark.case("BF-02", "BF-06", "HD-03")
def test_an_address_that_tries_many_names_must_wait_whatever_it_forwards(town: Town) -> None:
    for n in range(authenticate.ADDRESS_FREE + 6):
        failures(town, f"stuffed{n}", "198.51.100.9", 1)
    login, _ = town.someone()
    assert refused(try_password(town, login, PASSWORD, "198.51.100.9"))
    browser = town.browser()
    data = {**form_of(browser.follow(browser.go("/"))), "login": login, "password": PASSWORD}
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        answer = browser.client.post(
            "/login",
            data=data,
            base_url=BASE,
            environ_overrides={"REMOTE_ADDR": "198.51.100.9"},
            headers={header: "203.0.113.1"},
        )
        assert refused(answer)
    assert try_password(town, login, PASSWORD, "198.51.100.10").status_code == 303
    keys = [authenticate.failure_keys("", f"2001:db8::{n}")[1] for n in (1, 2)]
    assert keys[0] == keys[1]  # of an IPv6 address its /64


@pytest.mark.case("DO-06")
def test_more_attempts_than_the_pool_takes_are_told_to_come_again(town: Town) -> None:
    held = [authenticate.attempt() for _ in range(8)]
    for one in held:
        one.__enter__()
    waiting = threading.Semaphore(0)

    def wait() -> None:
        waiting.release()
        with pytest.raises(Unavailable), authenticate.attempt():
            pass

    threads = [threading.Thread(target=wait) for _ in range(4)]
    try:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        browser = town.browser()
        page = browser.follow(browser.go("/"))
        data = {**form_of(page), "login": "a", "password": "b"}
        answer = browser.client.post("/login", data=data, base_url=BASE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert town.call("GET", "/healthz").status_code == 200
    finally:
        for one in held:
            one.__exit__(None, None, None)


@pytest.mark.case("PW-03", "HD-02", "LG-04", "FL-03")
@pytest.mark.parametrize(
    ("login", "password", "status"),
    [
        ("a", "x" * 1_000_000, 400),
        ("a", "x" * 2_000, 400),
        ("x" * 1_000, "b", 400),
        ("a\x00b", "b", 400),
        ("", "", 200),
    ],
    ids=["megabyte", "long password", "long login", "nul", "empty"],
)
def test_odd_names_and_passwords_are_refused_without_a_fault(
    town: Town, login: str, password: str, status: int
) -> None:
    assert try_password(town, login, password).status_code == status


@pytest.mark.case("PW-01", "PW-04")
def test_a_password_is_taken_whole_in_any_script(town: Town) -> None:
    login, user_id = town.someone()
    long = "密码 with spaces é " * 20
    with town.unit() as unit:
        authenticate.store_hash(unit, user_id, authenticate.hash_password(login, long))
    assert refused(try_password(town, login, long[:72]))
    assert refused(try_password(town, login, long.upper()))
    assert try_password(town, login, long.replace("é", "e\u0301")).status_code == 303  # the same on another keyboard
    for bad in ("short", "x" * 1_025, f"my {login} is it", "aaaaaaaaaaaaaaaa"):
        with pytest.raises(Invalid):
            authenticate.hash_password(login, bad)


@pytest.mark.case("PW-04")
def test_a_hash_of_yesterdays_cost_is_renewed_at_the_sign_in(town: Town) -> None:
    login, user_id = town.someone()
    cheap = PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=1).hash(PASSWORD)
    with town.database.write() as connection:
        connection.execute(update(LocalPassword).where(LocalPassword.user_id == user_id).values(hash=cheap))
    assert try_password(town, login, PASSWORD).status_code == 303
    with town.database.read() as connection:
        stored = connection.execute(select(LocalPassword.hash).where(LocalPassword.user_id == user_id)).scalar_one()
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert try_password(town, login, PASSWORD).status_code == 303


@pytest.mark.case("SE-01")
def test_every_proof_gives_the_session_a_new_secret_and_the_old_one_is_dead(town: Town) -> None:
    login, _ = town.someone()
    browser = town.browser()
    browser.client.set_cookie("tessera_demo_sid", "sid_planted", domain="localhost")
    browser.sign_in(login)
    first = cookie(browser)
    assert first.startswith("sid_")
    assert first != "sid_planted"
    browser.sign_in(login, start="/portal/enter?again=1")
    second = cookie(browser)
    assert second != first
    thief = town.browser()
    thief.client.set_cookie("tessera_demo_sid", first, domain="localhost")
    assert 'name="password"' in thief.follow(thief.go("/")).text
    assert browser.go("/").status_code == 200


@pytest.mark.case("SE-03")
def test_a_session_ends_when_idle_and_at_its_end(town: Town) -> None:
    browser, user_id = town.signed_in()
    for minutes in (20, 45, 70):
        with town.later(minutes=minutes):
            assert fields(town.ask(browser, prompt="none"))["code"]  # a sign-in of an application is a use, too
    with town.later(minutes=70 + 31):
        assert fields(town.ask(browser, prompt="none"))["error"] == "login_required"
    with town.database.write() as connection:
        mine = LoginSession.user_id == user_id
        soon = datetime.now(UTC) + timedelta(hours=10)
        connection.execute(update(LoginSession).where(mine).values(last_seen_at=soon))
    with town.later(hours=10, seconds=1):
        assert fields(town.ask(browser, prompt="none"))["error"] == "login_required"


@pytest.mark.case("SE-04", "SE-05")
def test_a_cookie_that_is_not_ours_is_nobody(town: Town) -> None:
    browser, _ = town.signed_in()
    good = cookie(browser)
    bad = [good[:-1], good + "x", good.swapcase(), "x" * 8_000, "sid_\xe9", '"', "", "\\073"]
    headers = [f"tessera_demo_sid={one}" for one in bad]
    headers += [f"=tessera_demo_sid={good}", f"__Host-sid={good}", f"tessera_demo_admin={good}", ";;=;" * 100]
    for header in headers:
        answer = town.call("GET", "/account", headers={"Cookie": header})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/portal/enter?next=/account")
    assert town.call("GET", "/account", headers={"Cookie": f"tessera_demo_sid={good}"}).status_code == 200
    assert town.call("GET", "/admin", headers={"Cookie": f"tessera_demo_sid={good}"}).status_code == 303


@pytest.mark.case("SE-04", "SE-08", "SE-14")
def test_a_session_that_was_ended_elsewhere_is_over_with_the_next_request(town: Town) -> None:
    login, _ = town.someone()
    here, there = town.browser(), town.browser()
    here.sign_in(login)
    there.sign_in(login)
    tokens = town.tokens(there)
    answer = here.go("/account")
    assert (answer.headers["Cache-Control"], "Cookie" in answer.headers["Vary"]) == ("no-store", True)
    submit(here, "/account/sessions/end", answer, session="others")
    assert there.go("/account").status_code == 303
    assert town.refresh(tokens["refresh_token"]).status_code == 400
    assert here.go("/account").status_code == 200


@pytest.mark.case("SE-06")
def test_signing_in_again_as_somebody_else_does_not_raise_the_first_session(town: Town) -> None:
    first, second = town.someone()[0], town.someone()[0]
    browser = town.browser()
    browser.sign_in(first)
    before = cookie(browser)
    page = town.ask(browser, prompt="login")
    assert browser.go("/account").status_code == 200  # asked, not yet answered
    page = submit(browser, "/login", page, login=second, password="wrong")
    assert cookie(browser) == before
    answer = submit(browser, "/login", page, login=second, password=PASSWORD)
    assert town.redeem(fields(answer)["code"]).status_code == 200
    old = town.call("GET", "/account", headers={"Cookie": f"tessera_demo_sid={before}"})
    assert old.status_code == 303


@pytest.mark.case("SE-09", "RT-09")
def test_a_changed_password_ends_what_was_begun_with_the_old_one(town: Town) -> None:
    login, user_id = town.someone()
    here, there = town.browser(), town.browser()
    here.sign_in(login)
    there.sign_in(login)
    offline = town.tokens(there, scope="openid offline_access")["refresh_token"]
    kept = town.tokens(here)["refresh_token"]
    page = here.go("/account")
    before, new = cookie(here), "another long pass"
    wrong = submit(here, "/account/password", page, old="wrong", new=new, again=new)
    assert "is not right" in wrong.text
    weak = submit(here, "/account/password", page, old=PASSWORD, new="short", again="short")
    assert 'role="alert"' in weak.text
    done = submit(here, "/account/password", page, old=PASSWORD, new=new, again=new)
    assert done.request.path == "/account"
    assert cookie(here) != before
    assert there.go("/account").status_code == 303
    assert town.refresh(offline).status_code == 400
    assert town.refresh(kept).status_code == 200
    assert refused(try_password(town, login, PASSWORD))
    assert try_password(town, login, "another long pass").status_code == 303
    assert town.records("login.password.changed", user=str(user_id))


@pytest.mark.case("SE-10", "MF-10")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/account/factor"),
        ("POST", "/account/factor"),
        ("POST", "/account/recovery"),
    ],
)
def test_what_changes_an_account_needs_a_fresh_sign_in(town: Town, method: str, path: str) -> None:
    browser, _ = town.signed_in()
    with town.later(minutes=6):
        answer = browser.client.open(path, method=method, base_url=BASE)
    assert answer.status_code == 303
    assert answer.headers["Location"].endswith("again=1")


@pytest.mark.case("RT-09", "OI-21")
def test_a_withdrawn_consent_ends_what_it_gave(town: Town) -> None:
    browser, user_id = town.signed_in()
    page = town.ask(browser, "desk-asking", scope="openid desk.read offline_access", resource=DESK_API)
    code = fields(submit(browser, "/login/consent", page, answer="agree"))["code"]
    tokens = town.redeem(code, "desk-asking").json or {}
    assert fields(town.ask(browser, "desk-asking", scope="openid"))["code"]  # agreed to already
    account = browser.go("/account")
    application = re.findall(r'name="application" value="([^"]+)"', account.text)[0]
    submit(browser, "/account/consents/withdraw", account, application=application)
    assert town.refresh(tokens["refresh_token"], "desk-asking").status_code == 400
    assert town.introspect(tokens["access_token"]) == {"active": False}
    assert 'name="answer"' in town.ask(browser, "desk-asking", scope="openid").text
    assert town.records("login.consent.withdrawn", user=str(user_id))


@pytest.mark.case("CS-01")
@pytest.mark.parametrize("token", ["none", "wrong", "another browser's"])
def test_no_form_of_ours_is_taken_without_its_own_token(town: Town, token: str) -> None:
    browser, _ = town.signed_in()
    other, _ = town.signed_in()
    own = form_of(browser.go("/account"))["csrf_token"]
    sent = {"none": "", "wrong": own[:-2] + "AA", "another browser's": form_of(other.go("/account"))["csrf_token"]}
    rules = town.app.url_map.iter_rules()
    unprotected = {"oauth.authorize", "oauth_logout.post_logout", "saml.sso"}
    tried = 0
    for rule in rules:
        if "POST" not in rule.methods or rule.endpoint in unprotected:
            continue
        protection = town.app.view_functions[rule.endpoint].protection  # type: ignore[attr-defined]
        if not protection.csrf:
            assert protection.reason, rule.endpoint
            continue
        path = re.sub(r"<int:[^>]+>", "1", rule.rule)
        path = re.sub(r"<(?:[^:>]+:)?[^>]+>", "0192f0c0-0000-7000-8000-000000000000", path)
        answer = browser.client.post(path, data={"csrf_token": sent[token]}, base_url=BASE)
        signed_out = answer.status_code == 303 and "/enter" in answer.headers["Location"]
        assert answer.status_code == 403 or signed_out, (rule.rule, answer.status_code)
        tried += 1
    assert tried > 10
    as_json = browser.client.post("/logout", data='{"csrf_token": "x"}', content_type="text/plain", base_url=BASE)
    assert as_json.status_code == 403
    assert browser.go("/account").status_code == 200


@pytest.mark.case("CS-02", "CS-05")
def test_a_form_that_another_site_sends_is_refused(town: Town) -> None:
    browser, _ = town.signed_in()
    token = form_of(browser.go("/account"))["csrf_token"]
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ):
        answer = browser.client.post("/logout", data={"csrf_token": token}, base_url=BASE, headers=headers)
        assert answer.status_code == 403
    fresh = town.browser()
    login, _ = town.someone()
    data = {"tx": form_of(fresh.follow(fresh.go("/")))["tx"], "login": login, "password": PASSWORD, "csrf_token": token}
    assert fresh.client.post("/login", data=data, base_url=BASE).status_code == 403


@pytest.mark.case("LO-13", "CS-03")
def test_signing_out_everywhere_ends_everything_and_a_get_ends_nothing(town: Town) -> None:
    login, _ = town.someone()
    here, there = town.browser(), town.browser()
    here.sign_in(login)
    there.sign_in(login)
    offline = town.tokens(there, scope="openid offline_access")["refresh_token"]
    page = here.go("/logout")
    assert here.go("/account").status_code == 200
    submit(here, "/logout", page, everywhere="1")
    assert here.go("/account").status_code == 303
    assert there.go("/account").status_code == 303
    assert town.refresh(offline).status_code == 400
