"""A CAS service for tests: registered at the application `expense`, speaking to the door as a client library does."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring
from werkzeug.test import TestResponse

from identity.apps.inputs import ApplicationInput, CasInput
from identity.apps.service import get_application, put_application, put_cas_service
from tests.world import Browser, World

SERVICE = "https://app.example/cas"
NS = "{http://www.yale.edu/tp/cas}"


def register(world: World, url: str = SERVICE, **registration: Any) -> None:
    released = registration.pop("released", ("preferred_username", "name", "email", "roles"))
    aliases = registration.pop("aliases", {})
    with world.unit() as unit:
        wanted = ApplicationInput(code="expense", name="报销", released_claims=released, claim_aliases=aliases)
        put_application(unit, wanted)
        put_cas_service(unit, get_application(unit, "expense"), CasInput(url=url, **registration))


def enter(browser: Browser, service: str = SERVICE, **more: str) -> TestResponse:
    """Send the browser to the CAS login; what it sees at the end."""
    return browser.follow(browser.go(f"/cas/login?{urlencode({'service': service, **more})}"))


def ticket_of(answer: TestResponse, service: str = SERVICE) -> str:
    """The ticket that the browser was sent back with."""
    location = answer.headers["Location"]
    assert answer.status_code == 303
    assert location.startswith(quote(service, safe=":/?&=%;,@")), location
    tickets = parse_qs(urlsplit(location).query)["ticket"]
    assert len(tickets) == 1
    return tickets[0]


def validate(
    world: World, ticket: str, service: str = SERVICE, path: str = "/cas/p3/serviceValidate", **more: str
) -> Element:
    """The parsed answer: authenticationSuccess or authenticationFailure."""
    answer = world.call("GET", f"{path}?{urlencode({'service': service, 'ticket': ticket, **more})}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    root: Element = fromstring(answer.data)
    assert root.tag == f"{NS}serviceResponse"
    return root[0]


def code_of(answer: Element) -> str:
    """The failure's code, or `success`."""
    return answer.get("code") or answer.tag.removeprefix(f"{NS}authentication").lower()
