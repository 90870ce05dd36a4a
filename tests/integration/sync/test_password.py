"""An expired password is changed in its own directory, where the source allows it, and nowhere else."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from identity.login.models import LoginFailure
from identity.sync.models import BindFailure
from tests.integration.sync.company import Company
from tests.servers.slapd import SUFFIX
from tests.world import PASSWORD, Browser

NEW = "quite another horse 42"
SYNC = f"cn=writer,{SUFFIX}"
POLICY = f"cn=policy,{SUFFIX}"

DIRECTORIES = pytest.mark.parametrize(
    ("source", "database_url"), [("slapd", "sqlite"), ("samba", "postgresql")], indirect=True, ids=["slapd", "samba"]
)
AD = pytest.mark.parametrize(("source", "database_url"), [("samba", "sqlite")], indirect=True)


@pytest.fixture
def expired(company: Company) -> Company:
    """Li Si must change her password; Wang Wu need not."""
    source: Any = company.source
    for login in ("lisi", "wangwu"):
        source.add(login, displayName=login, o="XH01")
    if source.kind == "active_directory":
        source.change("lisi", pwdLastSet="0")
        company.configure(password_change=True)
    else:
        source.slapd.add(
            f"dn: {SYNC}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: writer\n\n"
            f"dn: {POLICY}\nobjectClass: person\nobjectClass: pwdPolicy\ncn: policy\nsn: p\n"
            "pwdAttribute: userPassword\npwdMustChange: TRUE\npwdMinLength: 12\npwdCheckQuality: 1\n"
        )
        source.slapd.stop()
        source.slapd.start(
            f'ppolicy_default "{POLICY}"\naccess to attrs=userPassword by dn.exact="{SYNC}" write by anonymous auth\n'
            f'access to * by dn.exact="{SYNC}" read by * read\nlimits dn.exact="{SYNC}" size=unlimited\n'
        )
        source.slapd.modify(f"dn: {source.user_dn('lisi')}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n")
        source.secret = "writer"
        company.configure(password_change=True, bind_dn=SYNC)
    assert company.sync().state == "applied"
    return company


def change(
    browser: Browser, page: TestResponse, old: str = PASSWORD, new: str = NEW, again: str = "", login: str = ""
) -> TestResponse:
    found = dict(re.findall(r'<input type="hidden" name="(csrf_token|tx)" value="([^"]*)"', page.text))
    shown = re.search(r'name="login" value="([^"]*)"', page.text)
    assert shown
    form = {name: unescape(value) for name, value in found.items()}
    form |= {"login": login or shown[1], "old": old, "new": new, "again": again or new}
    return browser.follow(browser.client.post("/login/change", data=form, base_url=browser.base))


def is_in(browser: Browser) -> bool:
    return 'name="password"' not in browser.follow(browser.go("/")).text


@DIRECTORIES
def test_an_expired_password_is_changed_in_its_directory_and_signs_in(expired: Company) -> None:
    browser = expired.world.browser()
    page = browser.sign_in("lisi")
    assert 'action="/login/change"' in page.text
    assert not is_in(browser)
    page = browser.sign_in("lisi")
    change(browser, page)
    assert is_in(browser)
    assert 'name="password"' in expired.world.browser().sign_in("lisi", PASSWORD).text
    again = expired.world.browser()
    again.sign_in("lisi", NEW)
    assert is_in(again)
    assert expired.sync(full=True).counts == {}, "what we wrote comes back as no change"
    changed = [one for one in expired.world.records() if one["kind"] == "login.password.changed"]
    assert len(changed) == 1
    assert NEW not in str(expired.world.records())


@DIRECTORIES
def test_a_wrong_old_password_and_a_bad_new_one_change_nothing(expired: Company) -> None:
    browser = expired.world.browser()
    page = browser.sign_in("lisi")
    assert "is not right" in change(browser, page, old="wrong").text
    with expired.world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(LoginFailure)).scalar_one() > 0
    assert "are not the same" in change(browser, page, again="something else").text
    assert "another password" in change(browser, page, new=PASSWORD).text
    assert not is_in(browser)
    assert 'action="/login/change"' in expired.world.browser().sign_in("lisi").text, "the old one is still the one"


@DIRECTORIES
def test_a_password_that_need_not_be_changed_is_not_changed_here(expired: Company) -> None:
    """Whoever found a password out could else take the account over before the second factor is asked for."""
    browser = expired.world.browser()
    page = browser.sign_in("lisi")
    assert "is not right" in change(browser, page, login="wangwu").text
    assert "is not right" in change(browser, page, login="wangwu", old="wrong").text
    assert not is_in(browser)
    refused = [one["reason"] for one in expired.world.records() if one["kind"] == "login.session.refused"]
    assert refused[-2:] == ["not_due", "wrong_password"]
    assert 'name="password"' in expired.world.browser().sign_in("wangwu", NEW).text
    hers = expired.world.browser()
    hers.sign_in("wangwu", PASSWORD)
    assert is_in(hers), "the password is the old one"


@DIRECTORIES
def test_a_wrong_old_password_is_one_failure_for_the_directory(expired: Company) -> None:
    more = {"bind_dn": SYNC} if expired.source.kind == "openldap" else {}
    expired.configure(password_change=True, lockout_failures=9, **more)
    browser = expired.world.browser()
    page = browser.sign_in("lisi")
    change(browser, page, old="wrong")
    with expired.world.database.read() as connection:
        assert connection.execute(select(BindFailure.count)).scalars().all() == [1]


@DIRECTORIES
def test_it_is_off_by_default_and_the_reason_is_told(expired: Company) -> None:
    off = {"bind_dn": SYNC} if expired.source.kind == "openldap" else {}
    expired.configure(password_change=False, **off)
    browser = expired.world.browser()
    page = browser.sign_in("lisi")
    assert "must be changed in the directory first" in page.text
    assert 'action="/login/change"' not in page.text
    answer = change(browser, page)
    assert "must be changed in the directory first" in answer.text
    assert not is_in(browser)


@AD
def test_what_the_domain_says_only_for_the_right_password_is_named(expired: Company) -> None:
    expired.source.change("wangwu", accountExpires="133485408000000000")
    assert "has ended" in expired.world.browser().sign_in("wangwu").text
    assert "is not right" in expired.world.browser().sign_in("wangwu", "wrong").text
    assert "is not right" in expired.world.browser().sign_in("lisi", "wrong").text
