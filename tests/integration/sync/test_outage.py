"""While the directory is away: nobody, or by the password that it accepted last, as a weaker sign-in."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from sqlalchemy import func, select, update

from identity.access.decide import Access
from identity.core.unit import Units
from identity.directory.models import DirectorySource
from identity.events.deliver import Composers
from identity.jobs.tasks import tasks
from identity.login.logout import LogoutNotifiers
from identity.login.models import AcceptedPassword, LoginFailure, TotpFactor
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


def kept(company: Company) -> int:
    with company.world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(AcceptedPassword)).scalar_one()


def test_a_password_that_the_directory_accepts_no_more_is_forgotten_and_a_guess_makes_us_forget_nothing(
    away: Company,
) -> None:
    away.source.slapd.start()  # type: ignore[attr-defined]
    assert "is not right" in away.world.browser().sign_in("lisi", "a guess").text
    assert kept(away) == 1
    away.source.change("lisi", userPassword="another password of hers")
    assert "is not right" in away.world.browser().sign_in("lisi", PASSWORD).text
    assert kept(away) == 0
    away.source.slapd.stop()  # type: ignore[attr-defined]
    assert away.world.browser().sign_in("lisi", PASSWORD).status_code == 503


def test_that_we_ask_no_more_is_no_word_of_the_directory(away: Company) -> None:
    away.source.slapd.start()  # type: ignore[attr-defined]
    away.configure(login_timeout_s=1, connect_timeout_s=1, outage_hours=8, lockout_failures=3)
    away.world.browser().sign_in("lisi", "a guess")
    assert "is not right" in away.world.browser().sign_in("lisi", PASSWORD).text
    refused = [one["reason"] for one in away.world.records() if one["kind"] == "login.session.refused"]
    assert refused == ["wrong_password", "held_back"]
    assert kept(away) == 1


def test_a_directory_that_refuses_a_bind_is_not_away(away: Company) -> None:
    """As another server does for an inactivated account: unwillingToPerform."""
    away.source.slapd.start("restrict bind\n")  # type: ignore[attr-defined]
    away.configure(login_timeout_s=1, connect_timeout_s=1, outage_hours=8, bind_dn="")
    answer = away.world.browser().sign_in("lisi", PASSWORD)
    assert (answer.status_code, "is not right" in answer.text) == (200, True)
    refused = [one["reason"] for one in away.world.records() if one["kind"] == "login.session.refused"]
    assert refused == ["unwilling"]
    assert kept(away) == 0


def purge(company: Company, **ahead: float) -> None:
    """What the worker does so much later."""
    things = company.world.things
    parts = [things[one] for one in (Units, Access, LogoutNotifiers, Composers)]
    root = company.world.app.extensions["tessera_root"]
    jobs = {job.name: job for job in tasks(company.world.settings, company.world.database, *parts, root)}
    jobs["purge"].run(datetime.now(UTC) + timedelta(**ahead))


def test_what_is_kept_goes_with_its_age(away: Company) -> None:
    purge(away, hours=7)
    assert kept(away) == 1
    purge(away, hours=8)
    assert kept(away) == 0


@pytest.mark.parametrize("how", ["nothing is kept any more", "the source is off"])
def test_what_is_kept_goes_with_the_setting(away: Company, how: str) -> None:
    if how == "the source is off":
        away.connect("hq", away.source, enabled=False, settings={"outage_hours": 8})
    else:
        away.configure()
    purge(away)
    assert kept(away) == 0


def test_a_session_that_is_too_weak_is_asked_for_the_password_again(away: Company) -> None:
    """Never for a second factor, which cannot be added to it."""
    browser = signed_in(away, "lisi")
    wanted = {"acr_values": "urn:tessera:acr:password"}
    away.source.slapd.start()  # type: ignore[attr-defined]
    code, _ = browser.authorize(**wanted)
    assert code == {}, "a page"
    browser.sign_in("lisi", PASSWORD, f"/oauth/authorize?{urlencode(asked(wanted))}")
    assert claims(away)["amr"] == ["pwd"]
    code, verifier = browser.authorize(**wanted)
    form = {"code": code["code"], "code_verifier": verifier, "redirect_uri": "https://app.example/cb"}
    answer = away.world.token(grant_type="authorization_code", **form)
    assert id_token(answer)["acr"] == "urn:tessera:acr:password"


def test_a_session_that_owes_a_second_factor_is_asked_for_the_password_first(away: Company) -> None:
    with away.world.unit() as unit:
        when = {"created_at": unit.now, "confirmed_at": unit.now}
        unit.db.add(TotpFactor(user_id=away.user("lisi").id, seed=b"sealed", **when))
    browser = away.world.browser()
    assert 'name="code"' in browser.sign_in("lisi", PASSWORD).text
    start = f"/oauth/authorize?{urlencode(asked({}))}"
    assert 'name="password"' in browser.follow(browser.go(start)).text, "the directory may be back"
    assert 'name="code"' in browser.sign_in("lisi", PASSWORD, start).text


def test_while_the_directory_is_away_a_stronger_context_is_refused_or_done_without(away: Company) -> None:
    browser = signed_in(away, "lisi")
    wanted = {"acr_values": "urn:tessera:acr:mfa"}
    answer = browser.sign_in("lisi", PASSWORD, f"/oauth/authorize?{urlencode(asked(wanted))}")
    assert "code=" in answer.headers["Location"]
    essential = {"id_token": {"acr": {"essential": True, "values": ["urn:tessera:acr:mfa"]}}}
    wanted = {"claims": orjson.dumps(essential).decode()}
    answer = browser.sign_in("lisi", PASSWORD, f"/oauth/authorize?{urlencode(asked(wanted))}")
    assert "error=unmet_authentication_requirements" in answer.headers["Location"]


def asked(more: dict[str, str]) -> dict[str, str]:
    """An authorization request of the application."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    query = {"client_id": "expense", "response_type": "code", "redirect_uri": "https://app.example/cb", **more}
    return {**query, "scope": "openid", "nonce": "n", "code_challenge": challenge, "code_challenge_method": "S256"}


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
