"""Attacks on the CAS door, by their case ids (section CA)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from identity.access.decide import Access
from identity.apps.inputs import CasInput
from identity.apps.service import set_application_status
from identity.cas.models import ServiceTicket, purge
from identity.core.unit import Units
from identity.events.deliver import Composers
from identity.jobs.tasks import tasks
from identity.login.logout import LogoutNotifiers
from identity.people.service import set_user_state
from tests.integration.cas.service import SERVICE, code_of, enter, register, ticket_of, validate
from tests.integration.cas.test_cas_protocol import member
from tests.integration.test_main_job import kinds
from tests.world import World


def test_ca_03_a_ticket_for_another_service_is_burnt_on_every_path(world: World) -> None:
    register(world)
    register(world, "https://app.example/other")
    browser = member(world)
    for path in ("/cas/serviceValidate", "/cas/p3/serviceValidate", "/cas/p3/proxyValidate"):
        ticket = ticket_of(enter(browser))
        assert code_of(validate(world, ticket, "https://app.example/other", path)) == "INVALID_SERVICE"
        assert code_of(validate(world, ticket)) == "INVALID_TICKET"
    for other in (f"{SERVICE}/", f"{SERVICE}?a", "https://APP.example/cas", f"{SERVICE}#", f" {SERVICE}"):
        assert code_of(validate(world, ticket_of(enter(browser)), other)) == "INVALID_SERVICE"


def test_ca_04_missing_parameters_burn_nothing(world: World) -> None:
    register(world)
    ticket = ticket_of(enter(member(world)))
    for query in (
        "",
        urlencode({"ticket": ticket}),
        urlencode({"service": SERVICE}),
        urlencode({"service": SERVICE, "ticket": ""}),
        f"{urlencode({'service': SERVICE, 'ticket': ticket})}&ticket={ticket}",
        f"ticket={ticket}&service=%ff",
        f"ticket={ticket}%00&service=x",
    ):
        answer = world.call("GET", f"/cas/p3/serviceValidate?{query}")
        assert (answer.status_code, "INVALID_REQUEST" in answer.text) == (200, True), query
    assert code_of(validate(world, ticket)) == "success"


@pytest.mark.case("CA-05", "CA-06", "RL-01", "RL-02")
def test_only_registered_services_get_tickets(world: World) -> None:
    register(world)
    register(world, "https://erp.example/app/**")
    browser = member(world)
    for service in (
        "https://evil.example/",
        f"{SERVICE}/",
        f"{SERVICE}?x=1",
        f"{SERVICE}#x",
        f"{SERVICE};jsessionid=1",
        "https://app.example@evil.example/cas",
        "https://APP.EXAMPLE/cas",
        "//app.example/cas",
        "javascript:alert(1)",
        "https://erp.example/application/",
        "https://erp.example/app/../admin",
        "https://erp.example/app/%2e%2e/admin",
        "https://erp.example/app/%2E./admin",
        "https://erp.example/app/..%2fadmin",
        "https://erp.example/app/a%2fb",
        "https://erp.example/app/a%5cb",
        "https://erp.example/app/%252e%252e/x",
        "https://erp.example/app//evil.example",
        "https://erp.example/app/;x",
        "https://erp.example/app/#x",
        "https://erp.example/app/\\evil",
        "https://erp.example/app/%zz",
        "https://erp.example/app/a?x=%00",
        "https://erp.example/app/a\r\nSet-Cookie: a=b",
        "https://erp.example/app/a b",
        "https://erp.example:444/app/",
        "https://x@erp.example/app/",
        "http://erp.example/app/",
        "https://erp.example\\@evil.example/app/",
        "https://[erp.example/app/",
        "https://erp.example]/app/",
        "https://erp\u2100.example/app/",
        "https://evil.example/https://erp.example/app/",
    ):
        answer = enter(browser, service)
        assert (answer.status_code, answer.headers.get("Location")) == (400, None), service
    answer = browser.go(f"/cas/login?{urlencode({'service': SERVICE})}&service=https://evil.example/")
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    assert "cas.ticket.issued" not in kinds(world)
    assert "cas.request.refused" in kinds(world)


@pytest.mark.case("CA-10", "TK-05")
def test_a_ticket_ends_after_ten_seconds_whatever_job_runs(world: World) -> None:
    register(world)
    browser = member(world)
    for seconds, code in ((8, "success"), (10.001, "INVALID_TICKET"), (3_600, "INVALID_TICKET")):
        ticket = ticket_of(enter(browser))
        with world.later(seconds=seconds):
            assert code_of(validate(world, ticket)) == code, seconds
    register(world, ticket_ttl_s=120)
    slow = ticket_of(enter(browser))
    with world.later(seconds=100):
        assert code_of(validate(world, slow)) == "success"
    unused = ticket_of(enter(browser))
    parts = [world.things[one] for one in (Units, Access, LogoutNotifiers, Composers)]
    root = world.app.extensions["tessera_root"]
    jobs = {job.name: job for job in tasks(world.settings, world.database, *parts, root, [purge])}
    with world.unit() as unit:
        assert unit.db.query(ServiceTicket).count() > 0
        now = unit.now
    jobs["purge"].run(now)
    assert code_of(validate(world, unused)) == "success"
    jobs["purge"].run(now + timedelta(minutes=5))
    with world.unit() as unit:
        assert unit.db.query(ServiceTicket).count() == 0
    assert CasInput(url=SERVICE, ticket_ttl_s=100_000).ticket_ttl_s == 300


@pytest.mark.case("CA-12", "CA-13")
def test_a_proxy_callback_is_refused_clearly_and_never_called(world: World) -> None:
    register(world)
    ticket = ticket_of(enter(member(world)))
    answer = validate(world, ticket, pgtUrl="https://app.example/pgt")
    assert code_of(answer) == "UNAUTHORIZED_SERVICE_PROXY"
    assert code_of(validate(world, ticket)) == "INVALID_TICKET"
    assert world.call("GET", "/cas/proxy?pgt=PGT-1&targetService=x").status_code == 404


@pytest.mark.case("CA-01", "RF-10")
def test_fifty_validations_at_once_have_one_success(world: World) -> None:
    register(world)
    ticket = ticket_of(enter(member(world)))
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: code_of(validate(world, ticket)), range(50)))
    assert sorted(codes) == ["INVALID_TICKET"] * 49 + ["success"]
    assert kinds(world).count("cas.ticket.validated") == 1


@pytest.mark.case("CA-16", "RL-01")
def test_logout_asks_and_leads_nowhere_else(world: World) -> None:
    register(world)
    browser = member(world)
    for query in ("url=https://evil.example/", "service=https://evil.example/", "service=//evil.example", ""):
        answer = browser.go(f"/cas/logout?{query}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/logout")
        page = browser.follow(answer)
        assert "evil" not in page.text
    assert code_of(validate(world, ticket_of(enter(browser)))) == "success"


@pytest.mark.case("CA-18", "CA-19", "ER-03", "TK-04")
def test_guessed_changed_and_foreign_tickets(world: World) -> None:
    register(world)
    browser = member(world)
    ticket = ticket_of(enter(browser))
    for other in (
        ticket[:-1],
        ticket.upper(),
        f"{ticket} ",
        f"{ticket}=",
        "ST-" + "0" * 48,
        "PT-1",
        "'; drop table cas_ticket; --",
        "<b>x</b>",
        "张",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "x" * 4_000,
    ):
        answer = world.call("GET", f"/cas/serviceValidate?{urlencode({'service': SERVICE, 'ticket': other})}")
        assert "INVALID_TICKET" in answer.text, other
        assert "<b>" not in answer.text
    assert world.call("POST", "/cas/serviceValidate", data={"ticket": ticket, "service": SERVICE}).status_code == 405
    assert code_of(validate(world, ticket)) == "success"


@pytest.mark.case("ST-04", "ST-06", "SE-08")
def test_a_ticket_dies_with_its_user_application_and_session(world: World) -> None:
    register(world)
    browser = member(world)
    person = world.person("li", "staff")
    other = world.browser()
    other.sign_in("li")
    ticket = ticket_of(enter(other))
    with world.unit() as unit:
        set_user_state(unit, person, "disabled", cause="test")
    assert code_of(validate(world, ticket)) == "INVALID_TICKET"
    ended = ticket_of(enter(browser))
    page = browser.go("/logout")
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    browser.client.post("/logout", data={"csrf_token": token}, base_url="http://localhost:8000")
    assert code_of(validate(world, ended)) == "INVALID_TICKET"
    browser.sign_in("zhang")
    off = ticket_of(enter(browser))
    with world.unit() as unit:
        set_application_status(unit, "expense", "disabled", 2)
    assert code_of(validate(world, off)) == "INVALID_SERVICE"


def test_a_person_whom_the_policy_refuses_gets_no_ticket(world: World) -> None:
    register(world)
    world.person("guest")
    browser = world.browser()
    browser.sign_in("guest")
    for flags in ({}, {"gateway": "true"}):
        answer = enter(browser, **flags)
        assert (answer.status_code, answer.headers.get("Location")) == (403, None)
    assert "cas.ticket.issued" not in kinds(world)
