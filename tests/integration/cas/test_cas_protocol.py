"""CAS Protocol 3.0 as client libraries use it."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from identity.events.models import OutboxMessage
from identity.people.inputs import Profile
from identity.people.service import update_profile
from tests.integration.cas.service import NS, SERVICE, code_of, enter, register, ticket_of, validate
from tests.integration.test_main_job import kinds
from tests.world import Browser, World


def member(world: World, login: str = "zhang") -> Browser:
    person = world.person(login, "staff")
    with world.unit() as unit:
        update_profile(unit, person, Profile(name="张 <三> & ]]>", mail=f"{login}@example.com"))
    browser = world.browser()
    browser.sign_in(login)
    return browser


@pytest.mark.case("CA-01", "CA-14", "CA-18")
def test_a_ticket_says_who_signed_in_once(world: World) -> None:
    register(world, aliases={"roles": "角色", "email": "urn:mail"})
    browser = member(world)
    ticket = ticket_of(enter(browser))
    assert ticket.startswith("ST-")
    assert 32 <= len(ticket) <= 256
    assert ticket.replace("-", "").isalnum()
    answer = validate(world, ticket)
    assert answer.findtext(f"{NS}user") == "zhang"
    attributes = answer.find(f"{NS}attributes")
    assert attributes is not None
    found = {one.tag.removeprefix(NS): one.text for one in attributes}
    dated = found.pop("authenticationDate")
    assert dated
    assert found == {
        "preferred_username": "zhang",
        "name": "张 <三> & ]]>",
        "角色": "employee",
        "isFromNewLogin": "false",
        "longTermAuthenticationRequestTokenUsed": "false",
    }
    assert code_of(validate(world, ticket)) == "INVALID_TICKET"
    for kind in ("cas.ticket.issued", "cas.ticket.validated", "cas.ticket.refused"):
        assert kind in kinds(world)


def test_the_four_paths_and_both_forms_answer(world: World) -> None:
    register(world)
    browser = member(world)
    for path in ("/cas/serviceValidate", "/cas/proxyValidate", "/cas/p3/serviceValidate", "/cas/p3/proxyValidate"):
        answer = validate(world, ticket_of(enter(browser)), path=path)
        assert answer.findtext(f"{NS}user") == "zhang"
        assert (answer.find(f"{NS}attributes") is not None) == ("/p3/" in path)
    query = urlencode({"service": SERVICE, "ticket": ticket_of(enter(browser)), "format": "JSON"})
    success = (world.call("GET", f"/cas/p3/serviceValidate?{query}").json or {})["serviceResponse"]
    assert success["authenticationSuccess"]["user"] == "zhang"
    assert success["authenticationSuccess"]["attributes"]["name"] == ["张 <三> & ]]>"]
    failure = (world.call("GET", f"/cas/p3/serviceValidate?{query}").json or {})["serviceResponse"]
    assert failure["authenticationFailure"]["code"] == "INVALID_TICKET"


def test_a_person_who_is_not_signed_in_does_so_and_goes_on(world: World) -> None:
    register(world)
    world.person("zhang", "staff")
    answer = world.browser().sign_in("zhang", start=f"/cas/login?{urlencode({'service': SERVICE})}")
    found = validate(world, ticket_of(answer), renew="true")
    assert found.findtext(f"{NS}user") == "zhang"
    assert found.findtext(f"{NS}attributes/{NS}isFromNewLogin") == "true"


@pytest.mark.case("CA-08", "CA-09")
def test_renew_and_gateway(world: World) -> None:
    register(world)
    browser = member(world)
    assert code_of(validate(world, ticket_of(enter(browser)), renew="true")) == "INVALID_TICKET"
    for flags in ({"renew": "true"}, {"renew": ""}, {"renew": "true", "gateway": "true"}):
        assert 'name="password"' in enter(browser, **flags).text
    assert code_of(validate(world, ticket_of(enter(browser, gateway="true")))) == "success"
    stranger = world.browser()
    back = enter(stranger, gateway="true")
    assert (back.status_code, back.headers["Location"]) == (303, SERVICE)
    page = enter(browser, renew="true")
    start = f"{page.request.path}?{page.request.query_string.decode()}"
    again = browser.sign_in("zhang", start=start)
    assert code_of(validate(world, ticket_of(again), renew="true")) == "success"


@pytest.mark.case("CA-15")
def test_a_login_posted_from_another_site_goes_on_by_get(world: World) -> None:
    register(world)
    browser = member(world)
    headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    answer = browser.client.post(
        "/cas/login", data={"service": SERVICE}, headers=headers, base_url="http://localhost:8000"
    )
    assert answer.status_code == 303
    assert code_of(validate(world, ticket_of(browser.follow(answer)))) == "success"


def test_addresses_below_a_template_keep_their_queries(world: World) -> None:
    register(world, "https://erp.example/app/**")
    browser = member(world)
    for service in (
        "https://erp.example/app",
        "https://erp.example/app/",
        "https://erp.example/app/单据/1?name=张三&a=%E5%BC%A0&b=1;2@x",
        "https://erp.example/app/%E5%8D%95?x=/../..//",
    ):
        ticket = ticket_of(enter(browser, service), service)
        assert code_of(validate(world, ticket, service)) == "success", service


def test_logout_tells_every_session_that_a_ticket_made(world: World) -> None:
    register(world, "https://app.example/one", logout_url="https://app.example/one")
    register(world, "https://app.example/two", logout_url="https://app.example/two")
    browser = member(world)
    services = ("https://app.example/one", "https://app.example/two", "https://app.example/one")
    tickets = [ticket_of(enter(browser, one), one) for one in services]
    page = browser.go("/logout")
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    browser.client.post("/logout", data={"csrf_token": token}, base_url="http://localhost:8000")
    with world.unit() as unit:
        sent = [(one.destination, one.payload["logoutRequest"]) for one in unit.db.query(OutboxMessage)]
    assert [address for address, _ in sent] == list(services)
    for (_, message), ticket in zip(sent, tickets, strict=True):
        assert f"<samlp:SessionIndex>{ticket}</samlp:SessionIndex>" in message
