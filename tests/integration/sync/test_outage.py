"""While the directory is away: nobody, or by the password that it accepted last, as a weaker sign-in."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, update

from identity.directory.models import DirectorySource
from identity.login.models import AcceptedPassword, LoginFailure
from tests.integration.sync.company import Company
from tests.world import PASSWORD, Browser

pytestmark = [
    pytest.mark.parametrize("source", ["slapd"], indirect=True),
    pytest.mark.case("RF-21"),
]


@pytest.fixture
def away(company: Company) -> Company:
    """Li Si has signed in once; then the directory goes."""
    company.source.add("lisi", displayName="李四", o="XH01")
    company.source.add("wangwu", displayName="王五", o="XH01")
    company.source.group("staff", "lisi", "wangwu")
    company.configure(login_timeout_s=1, connect_timeout_s=1, outage_hours=8)
    assert company.sync().state == "applied"
    assert is_in(signed_in(company, "lisi"))
    company.source.slapd.stop()  # type: ignore[attr-defined]
    return company


def signed_in(company: Company, login: str, password: str = PASSWORD) -> Browser:
    browser = company.world.browser()
    browser.sign_in(login, password)
    return browser


def is_in(browser: Browser) -> bool:
    return 'name="password"' not in browser.follow(browser.go("/")).text


def id_token(answer: Any) -> dict[str, Any]:
    """What the ID token says, its signature left to other tests."""
    body = answer.json["id_token"].split(".")[1]
    found: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def claims(company: Company) -> dict[str, Any]:
    """The session's acr and amr, as its records say them."""
    last = [one for one in company.world.records() if one["kind"].startswith("login.session.")][-1]
    found: dict[str, Any] = last["data"]
    return found


def test_the_last_accepted_password_counts_as_a_weaker_sign_in(away: Company) -> None:
    browser = signed_in(away, "lisi")
    assert is_in(browser)
    assert "cached" in claims(away)["amr"]
    code, verifier = browser.authorize()
    form = {"code": code["code"], "code_verifier": verifier, "redirect_uri": "https://app.example/cb"}
    answer = away.world.token(grant_type="authorization_code", **form)
    assert answer.status_code == 200, answer.text
    assert id_token(answer)["acr"] == "urn:tessera:acr:cached"


def test_a_wrong_one_counts_as_a_failure_and_whoever_never_signed_in_is_told_to_wait(away: Company) -> None:
    assert "is not right" in away.world.browser().sign_in("lisi", "wrong").text
    with away.world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(LoginFailure)).scalar_one() > 0
    assert away.world.browser().sign_in("wangwu").status_code == 503


def test_it_ends_with_its_age_and_with_the_setting(away: Company) -> None:
    with away.world.later(hours=8):
        assert away.world.browser().sign_in("lisi").status_code == 503
    away.configure(login_timeout_s=1, connect_timeout_s=1)
    assert away.world.browser().sign_in("lisi").status_code == 503


def test_the_directory_has_the_last_word_when_it_is_back(away: Company) -> None:
    away.source.slapd.start()  # type: ignore[attr-defined]
    away.source.change("lisi", userPassword="another password of hers")
    assert "is not right" in away.world.browser().sign_in("lisi", PASSWORD).text
    assert is_in(signed_in(away, "lisi", "another password of hers"))
    away.source.slapd.stop()  # type: ignore[attr-defined]
    assert is_in(signed_in(away, "lisi", "another password of hers"))
    assert "is not right" in away.world.browser().sign_in("lisi", PASSWORD).text


def test_what_the_directory_says_against_an_account_makes_us_forget(away: Company) -> None:
    away.source.slapd.start()  # type: ignore[attr-defined]
    away.source.disable("lisi")
    away.world.browser().sign_in("lisi")
    with away.world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(AcceptedPassword)).scalar_one() == 0


def test_the_console_stays_shut(away: Company) -> None:
    answer = away.world.browser().sign_in("lisi", PASSWORD, "/console/enter")
    assert answer.status_code == 503


def test_a_kept_hash_of_another_source_counts_for_nothing(away: Company) -> None:
    away.connect("other", away.source, settings={"outage_hours": 8})
    with away.world.unit() as unit:
        other = unit.db.execute(select(AcceptedPassword)).scalar_one()
        assert other.hash.startswith("$argon2id$")
        unit.db.execute(update(AcceptedPassword).values(source_id=_source(away, "other")))
    assert away.world.browser().sign_in("lisi").status_code == 503


def _source(company: Company, code: str) -> Any:
    with company.world.database.read() as connection:
        return connection.execute(select(DirectorySource.id).where(DirectorySource.code == code)).scalar_one()
