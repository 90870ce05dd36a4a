"""The second factor under attack, outside the demo: console roles owe one, everybody may have one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from sqlalchemy import select

from identity.audit.models import AuditRecord
from identity.login import authenticate
from identity.login.models import RecoveryCode, TotpFactor
from identity.roles.service_assignments import bootstrap_administrator
from tests.conftest import KINDS, server_of
from tests.security.town import PASSWORD, TOWN, Town, claims_of, fields, form_of, submit
from tests.servers.templates import Templates
from tests.world import Browser

MFA = "urn:tessera:acr:mfa"


@pytest.fixture(scope="module", params=KINDS)
def city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Town]:
    """A town that is no demo: https, and a root key of its own."""
    folder = tmp_path_factory.mktemp("city")
    url = templates.empty(server_of(request), folder)
    root = folder / "root.key"
    root.write_bytes(secrets.token_bytes(32))
    root.chmod(0o600)
    made = Town(url, folder, TOWN, tessera_demo=False, public_url="https://id.example", root_key_file=root)
    with made.unit() as unit:
        made_boss = bootstrap_administrator(unit, "boss", "Boss", ["system-admin"])
        authenticate.set_password(unit, made_boss, PASSWORD)
    yield made
    made.close()


def now_code(town: Town, seed: str, steps: int = 0) -> str:
    return pyotp.TOTP(seed).at(datetime.now(UTC) + town.ahead + timedelta(seconds=30 * steps))


def seed_on(text: str) -> str:
    found = re.search(r"\b([A-Z2-7]{32})\b", text)
    assert found is not None
    return found[1]


def codes_on(text: str) -> list[str]:
    return re.findall(r"\b[2-9a-z]{5}(?:-[2-9a-z]{5}){3}\b", text)


def enrolled(town: Town) -> tuple[Browser, str, str, list[str]]:
    """A browser with both factors, its person's login, the seed and the recovery codes. The seed's code of now is
    used; time goes on by two steps with each further code."""
    login, _ = town.someone()
    browser = town.browser()
    browser.sign_in(login)
    page = browser.go("/account/factor")
    seed = seed_on(page.text)
    done = submit(browser, "/account/factor", page, code=now_code(town, seed))
    codes = codes_on(done.text)
    assert len(codes) == 10
    return browser, login, seed, codes


@pytest.mark.case("MF-07", "MF-05", "SE-01", "DF-01")
def test_a_console_role_does_not_get_in_without_a_second_factor(city: Town) -> None:
    browser = city.browser()
    page = browser.sign_in("boss", start="/admin")
    seed = seed_on(page.text)
    half = browser.client.get_cookie("__Host-admin", "id.example")
    assert half is not None
    assert (half.secure, half.http_only, half.same_site, half.path) == (True, True, "Lax", "/")
    assert browser.go("/admin").headers["Location"].startswith("/console/enter")
    assert browser.go("/account").headers["Location"].startswith("/portal/enter")
    wrong = submit(browser, "/login/enrol", page, code="000000")
    assert 'role="alert"' in wrong.text
    done = submit(browser, "/login/enrol", page, code=now_code(city, seed))
    assert len(codes_on(done.text)) == 10
    whole = browser.client.get_cookie("__Host-admin", "id.example")
    assert whole is not None
    assert whole.value != half.value
    assert browser.go("/admin").status_code == 200
    thief = city.browser()
    thief.client.set_cookie("__Host-admin", half.value, domain="id.example")
    assert thief.go("/admin").status_code == 303
    portal = city.browser()
    page = portal.sign_in("boss")
    assert 'name="code"' in page.text  # and no SSO session either
    assert 'name="code"' in city.ask(portal).text
    assert fields(city.ask(portal, prompt="none"))["error"] == "interaction_required"
    recovery = codes_on(done.text)
    submit(portal, "/login/totp", page, code=recovery[0])
    kept = submit(portal, "/account/factor/remove", portal.go("/account"), code=recovery[1])
    assert kept.status_code == 403


@pytest.mark.case("MF-01", "MF-02", "MF-05", "MF-08")
def test_a_code_counts_once_and_only_in_its_time(city: Town) -> None:
    _, login, seed, _ = enrolled(city)
    with city.later(minutes=5):
        browser, other = city.browser(), city.browser()
        page, again = browser.sign_in(login.upper()), other.sign_in(login)
        assert browser.go("/account").status_code == 303
        for steps in (-3, -2, 2, 3):
            assert 'role="alert"' in submit(browser, "/login/totp", page, code=now_code(city, seed, steps)).text
        code = now_code(city, seed)
        submit(browser, "/login/totp", page, code=code)
        assert browser.go("/account").status_code == 200
        submit(other, "/login/totp", again, code=code)
        assert other.go("/account").status_code == 303
    with city.later(minutes=10):
        late = city.browser()
        page = late.sign_in(login)
        submit(late, "/login/totp", page, code=now_code(city, seed, -1))
        assert late.go("/account").status_code == 200


@pytest.mark.case("MF-04", "SE-10")
def test_a_recovery_code_counts_once_and_new_ones_replace_the_old(city: Town) -> None:
    first, login, _, codes = enrolled(city)
    for code, status in ((codes[0].upper(), 200), (codes[0], 303)):
        browser = city.browser()
        submit(browser, "/login/totp", browser.sign_in(login), code=code)
        assert browser.go("/account").status_code == status
    fresh = codes_on(submit(first, "/account/recovery", first.go("/account")).text)
    for code, status in ((codes[1], 303), (fresh[0], 200)):
        browser = city.browser()
        submit(browser, "/login/totp", browser.sign_in(login), code=code)
        assert browser.go("/account").status_code == status
    with city.database.read() as connection:
        stored = connection.execute(select(RecoveryCode.code_hash)).scalars().all()
    assert all(len(one) == 32 for one in stored)


@pytest.mark.case("MF-06", "MF-09", "MF-10")
def test_no_other_way_leads_around_the_factor(city: Town) -> None:
    _, login, _, _ = enrolled(city)
    _, _, others_seed, others_codes = enrolled(city)
    browser = city.browser()
    page = browser.sign_in(login)
    tx = form_of(page)["tx"]
    assert browser.go(f"/login/enrol?tx={tx}").status_code == 400  # there is one already
    for path in ("/account/factor", "/account/factor/remove", "/account/recovery", "/account/password"):
        answer = browser.client.post(path, data=form_of(page), base_url=browser.base)
        assert answer.headers["Location"].startswith("/portal/enter"), path
    assert browser.client.post("/login/consent", data=form_of(page), base_url=browser.base).status_code == 403
    assert 'name="code"' in browser.follow(browser.go(f"/portal/resume?tx={tx}")).text
    for code in (now_code(city, others_seed, 1), others_codes[0], "", "0", "１２３４５６"):
        submit(browser, "/login/totp", page, code=code)
        assert browser.go("/account").status_code == 303


@pytest.mark.case("BF-04", "MF-09")
def test_guessing_codes_is_slow_and_a_right_password_does_not_start_it_anew(city: Town) -> None:
    _, login, seed, _ = enrolled(city)
    with city.later(minutes=5):
        with city.database.write() as connection:
            for _ in range(authenticate.LOGIN_FREE + 6):
                authenticate.count_failure(connection, f"otp:{login}", "192.0.2.1", datetime.now(UTC) + city.ahead)
        browser = city.browser()
        page = browser.sign_in(login)
        assert 'role="alert"' in submit(browser, "/login/totp", page, code=now_code(city, seed)).text
        assert city.records("login.factor.refused", reason="blocked")
    with city.later(minutes=7):
        browser = city.browser()
        submit(browser, "/login/totp", browser.sign_in(login), code=now_code(city, seed))
        assert browser.go("/account").status_code == 200


@pytest.mark.case("MF-11")
def test_a_seed_is_stored_encrypted_and_written_down_nowhere(city: Town) -> None:
    _, _, seed, codes = enrolled(city)
    with city.database.read() as connection:
        seeds = [bytes(one) for one in connection.execute(select(TotpFactor.seed)).scalars()]
        bodies = [bytes(one) for one in connection.execute(select(AuditRecord.body)).scalars()]
    for secret in (seed, codes[0], PASSWORD):
        assert not [one for one in (*seeds, *bodies) if secret.encode() in one]


@pytest.mark.case("OA-20", "OI-18", "SE-01")
def test_a_client_that_asks_for_both_factors_gets_them_truly(city: Town) -> None:
    login, _ = city.someone()
    browser = city.browser()
    browser.sign_in(login)
    before = claims_of(city.tokens(browser)["id_token"])
    page = city.ask(browser, acr_values=MFA)
    seed = seed_on(page.text)
    done = submit(browser, "/login/enrol", page, code=now_code(city, seed))
    onward = re.search(r'href="(/oauth/resume\?tx=[^"]+)"', done.text)
    assert onward is not None
    code = fields(browser.follow(browser.go(onward[1])))["code"]
    after = claims_of((city.redeem(code).json or {})["id_token"])
    assert (before["acr"], after["acr"]) == ("urn:tessera:acr:password", MFA)
    assert after["amr"] == ["pwd", "otp", "mfa"]
    assert after["sid"] == before["sid"]
    assert fields(city.ask(browser, prompt="none", acr_values=MFA))["code"]


@pytest.mark.case("MF-10", "SE-09")
def test_a_factor_is_removed_by_its_owner_only_while_nothing_asks_for_it(city: Town) -> None:
    browser, login, _, codes = enrolled(city)
    there = city.browser()
    submit(there, "/login/totp", there.sign_in(login), code=codes[0])
    assert there.go("/account").status_code == 200
    submit(browser, "/account/factor/remove", browser.go("/account"), code="000000")
    assert there.go("/account").status_code == 200
    submit(browser, "/account/factor/remove", browser.go("/account"), code=codes[1])
    assert there.go("/account").status_code == 303
    assert city.browser().sign_in(login).request.path == "/"


def test_a_stale_session_cannot_add_a_factor_by_way_of_a_client(city: Town) -> None:
    browser, _ = city.signed_in()
    with city.later(minutes=6):
        page = city.ask(browser, acr_values=MFA)
        assert 'name="password"' in page.text
