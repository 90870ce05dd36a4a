"""Sign-in through a directory that is away, hangs, or would lock its people."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import func, select

from identity.login.models import LoginFailure
from tests.integration.sync.company import Company
from tests.integration.sync.sources import SlapdSource
from tests.world import PASSWORD

# What a directory answers has nothing to do with the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def company_of_two(company: Company) -> Company:
    company.source.add("lisi", displayName="李四", o="XH01")
    company.source.add("wangwu", displayName="王五", o="XH01")
    company.configure(login_timeout_s=1, connect_timeout_s=1)
    assert company.sync().state == "applied"
    company.world.person("local")
    return company


def failures(company: Company) -> int:
    with company.world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(LoginFailure)).scalar_one()


@pytest.mark.case("RF-21", "RF-22", "LD-13", "SY-07")
@pytest.mark.parametrize("how", ["hangs", "is down"])
def test_a_directory_that_does_not_answer_is_nobodys_fault(company_of_two: Company, how: str) -> None:
    company = company_of_two
    assert isinstance(company.source, SlapdSource)
    signed_in = company.world.browser()
    assert signed_in.sign_in("lisi").status_code == 200
    if how == "hangs":
        company.source.slapd.send(signal.SIGSTOP)
    else:
        company.source.slapd.stop()
    for login in ("lisi", "wangwu", "lisi"):
        answer = company.world.browser().sign_in(login, "wrong")
        assert answer.status_code == 503, answer.text
        assert "is not right" not in answer.text
    assert failures(company) == 0
    assert company.sync(full=True).state == "failed"
    assert set(company.states().values()) == {"active"}
    assert company.world.browser().sign_in("local").status_code == 200
    assert 'name="password"' not in signed_in.follow(signed_in.go("/")).text
    if how == "hangs":
        company.source.slapd.send(signal.SIGCONT)
    else:
        company.source.slapd.start()
    assert company.world.browser().sign_in("wangwu").status_code == 200


def test_we_stop_before_the_directory_locks_an_account(company_of_two: Company) -> None:
    company = company_of_two
    company.configure(login_timeout_s=1, lockout_failures=5, lockout_window_s=1_800)
    for _ in range(3):
        assert "is not right" in company.world.browser().sign_in("lisi", "wrong").text
    answer = company.world.browser().sign_in("lisi", PASSWORD)
    assert "is not right" in answer.text, "two failures are left for the owner in front of Windows"
    assert company.world.browser().sign_in("wangwu").status_code == 200


@pytest.mark.case("LD-03")
@pytest.mark.parametrize("login", ["*", "*)(uid=*", "admin)(|(cn=*", "\\00", "\\2a", "lisi\\2a", "l*"])
def test_a_login_is_never_part_of_a_filter(company_of_two: Company, login: str) -> None:
    answer = company_of_two.world.browser().sign_in(login)
    assert answer.status_code == 200
    assert "is not right" in answer.text
