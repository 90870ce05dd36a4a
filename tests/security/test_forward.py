"""The endpoint for proxies: what a proxy, a browser and anybody else might try (attack cases FA-01 to FA-04)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import pytest

from tests.conftest import KINDS, server_of
from tests.integration.forward.wiki import company
from tests.servers.templates import Templates
from tests.world import Browser, World

ORIGIN = "https://wiki.example"
OTHER = {
    "code": "other",
    "name": "Other",
    "credential": "env:TEST_SECRET",
    "forward": [{"origin": "https://other.example"}],
}


class Wiki(World):
    """`session` is a browser's cookie at the host, of somebody who may read below /docs."""

    user: UUID
    session: str

    def ask(
        self, uri: str, method: str = "GET", caller: str = "wiki", host: str = "wiki.example", **headers: str
    ) -> Any:
        said = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": host,
            "X-Forwarded-Uri": uri,
            "X-Forwarded-Method": method,
            "Cookie": f"__Host-tessera-auth={self.session}",
            **headers,
        }
        return self.call("GET", "/forward/auth", headers=said, auth=(caller, self.secret))

    def enter(self, browser: Browser, uri: str = "/docs/a", state: str = "") -> Any:
        """What the host's callback is answered for a browser that signs in; `state` is another browser's."""
        first = self.ask(uri, Cookie="")
        held = state or first.headers["Set-Cookie"].partition(";")[0]
        answer = browser.follow(browser.go(first.headers["Location"].partition("localhost:8000")[2]))
        code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
        return self.callback(code, held)

    def callback(self, code: str, cookie: str, caller: str = "wiki", host: str = "wiki.example") -> Any:
        said = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": host,
            "X-Forwarded-Uri": f"/_tessera/callback?code={code}",
            "X-Forwarded-Method": "GET",
            "Cookie": cookie,
        }
        auth = (caller, self.secret)
        return self.call("GET", "/forward/callback", query_string={"code": code}, headers=said, auth=auth)


@pytest.fixture(scope="module", params=KINDS)
def wiki(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Wiki]:
    folder = tmp_path_factory.mktemp("wiki")
    made = templates.world(templates.address(server_of(request), folder), folder, company(ORIGIN, OTHER), kind=Wiki)
    made.user = made.person("zhang", "staff")
    made.session = ""
    browser = made.browser()
    browser.sign_in("zhang")
    entered = made.enter(browser)
    assert entered.status_code == 303
    made.session = cookies(entered)["__Host-tessera-auth"]
    yield made
    made.close()


def cookies(answer: Any) -> dict[str, str]:
    pairs = (one.partition(";")[0].partition("=") for one in answer.headers.getlist("Set-Cookie"))
    return {name: value for name, _, value in pairs}


def identity(answer: Any) -> set[str]:
    """The values of the identity headers, all of which must be there."""
    return {answer.headers[f"X-Auth-{name}"] for name in ("User", "Subject", "Name", "Email", "Roles")}


AMBIGUOUS = [
    *("/docs/../secret", "/docs/./a", "//docs/a", "/docs//a", "/docs/%2e%2e/secret", "/docs/%2E./x", "/docs/%2fa"),
    *(
        "/docs%2fa",
        "/docs/a%5cb",
        "/docs\\a",
        "/docs/a;v=1",
        "/docs/%252e%252e/x",
        "/docs/a%00",
        "/docs/a%0a",
        "/docs/a#b",
    ),
    *(
        "/docs/a\tb",
        "/docs/%ef%bc%8f",
        "/docs/%e2%80%a4%e2%80%a4/x",
        "/docs/%ff",
        "/docs/%",
        "/docs/é",
        "/docs/.hidden",
    ),
    *("docs/a", "", "https://evil.example/docs/a", "/docs/%20a", "/docs/a%20", "/docs/a.", "/docs/" + "a" * 2_050),
]


@pytest.mark.case("FA-01")
@pytest.mark.parametrize("uri", AMBIGUOUS)
def test_an_address_with_two_readings_is_refused(wiki: Wiki, uri: str) -> None:
    sent = uri.encode().decode("latin-1")
    answer = wiki.ask(sent)
    assert answer.status_code == 403, uri
    assert identity(answer) == {""}


@pytest.mark.case("FA-01", "FA-04")
def test_the_path_alone_decides_in_its_normal_form(wiki: Wiki) -> None:
    for uri in (
        "/docs/a",
        "/docs",
        "/docs/",
        "/docs/a/",
        "/docs/a?x=/../..",
        "/docs/%61",
        "/docs/%E5%90%88",
        "/docs/a%20b",
    ):
        assert wiki.ask(uri).status_code == 200, uri
    for uri in ("/", "/secret", "/secret?/docs/a", "/?/docs", "/Docs/a", "/docsx", "/admin/docs", "/index"):
        assert wiki.ask(uri).status_code == 403, uri
    last = [one for one in wiki.records() if one["kind"] == "access.decision.made"][-2:]
    assert [(one["resource_type"], one["resource_id"]) for one in last] == [
        ("administration", "admin/docs"),
        ("page", "index"),
    ]
    for method in ("POST", "DELETE", "TRACE", "get ", "GET,POST"):
        assert wiki.ask("/docs/a", method).status_code == 403, method


@pytest.mark.case("FA-02")
@pytest.mark.parametrize("cookie", ["", "x", "a" * 5_000, "fws_" + "a" * 43, "é"])
def test_a_foreign_cookie_is_no_session_and_the_identity_is_empty(wiki: Wiki, cookie: str) -> None:
    answer = wiki.ask("/docs/a", Cookie=f"__Host-tessera-auth={cookie}".encode().decode("latin-1"))
    assert answer.status_code == 401
    assert identity(answer) == {""}
    twice = f"__Host-tessera-auth={wiki.session}; __Host-tessera-auth=x"
    assert wiki.ask("/docs/a", Cookie=twice).status_code == 401
    assert wiki.ask("/docs/a", Cookie=f"tessera-auth={wiki.session}").status_code == 401


def test_a_session_is_good_at_its_own_host_and_with_its_own_proxy_only(wiki: Wiki) -> None:
    answer = wiki.ask("/docs/a", caller="other")
    assert (answer.status_code, answer.json["reason"]) == (403, "forward_host")
    assert wiki.ask("/docs/a", caller="other", host="other.example").status_code == 401
    for host in ("evil.example", "wiki.example:444", "wiki.example,other.example", ""):
        assert wiki.ask("/docs/a", host=host).status_code == 403, host
    nobody = wiki.call("GET", "/forward/auth", headers={"X-Forwarded-Uri": "/docs/a"})
    assert nobody.status_code == 403
    assert wiki.ask("/docs/a", **{"X-Forwarded-Proto": "http"}).status_code == 403


@pytest.mark.case("FA-03")
def test_a_sign_in_leads_to_registered_hosts_only(wiki: Wiki) -> None:
    state = "a" * 43
    browser = wiki.browser()
    wrong = (
        *(
            {"host": one}
            for one in ("https://evil.example", "https://wiki.example.evil", "https://wiki.example/", "//evil", "")
        ),
        *(
            {"path": one}
            for one in ("//evil", "/\\evil", "https://evil", "/a\r\nSet-Cookie: x", "/%0d%0a", "", "/a/../b")
        ),
        *({"state": one} for one in ("", "short", "a" * 44, "a" * 42 + "!")),
    )
    for change in wrong:
        said = {"host": ORIGIN, "path": "/docs/a", "state": state, **change}
        answer = browser.go("/forward/start?" + "&".join(f"{name}={quote(value)}" for name, value in said.items()))
        assert answer.status_code == 400, change
        assert "Location" not in answer.headers


def test_a_code_counts_once_in_its_browser_at_its_host(wiki: Wiki) -> None:
    browser = wiki.browser()
    browser.sign_in("zhang")
    stolen = wiki.enter(browser, state="__Host-tessera-state=fst_" + "b" * 43)
    assert stolen.status_code == 400
    assert "__Host-tessera-auth" not in cookies(stolen)
    assert wiki.enter(browser, state="x=y").status_code == 400
    first = wiki.ask("/docs/a", Cookie="")
    held = first.headers["Set-Cookie"].partition(";")[0]
    codes = []
    for _ in range(3):
        answer = browser.follow(browser.go(first.headers["Location"].partition("localhost:8000")[2]))
        codes.append(parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0])
    assert wiki.callback(codes[0], held, caller="other", host="other.example").status_code == 400
    assert wiki.callback(codes[0], held).status_code == 400, "it was burnt where it was tried first"
    assert wiki.callback(codes[1], held).status_code == 303
    assert wiki.callback(codes[1], held).status_code == 400
    with wiki.later(seconds=61):
        assert wiki.callback(codes[2], held).status_code == 400
    refused = [one for one in wiki.records() if one["kind"] == "forward.request.refused"]
    assert {one["reason"] for one in refused} >= {"no_transaction", "invalid_grant"}


def test_cookies_of_the_host_are_bound_to_it(wiki: Wiki) -> None:
    browser = wiki.browser()
    browser.sign_in("zhang")
    for line in [
        *wiki.enter(browser).headers.getlist("Set-Cookie"),
        wiki.ask("/docs/a", Cookie="").headers["Set-Cookie"],
    ]:
        assert line.startswith("__Host-tessera-")
        assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(line.split("; "))
        assert "Domain" not in line


def test_tabs_share_their_state_and_only_pages_lead_to_a_sign_in(wiki: Wiki) -> None:
    first = wiki.ask("/docs/a", Cookie="")
    held = first.headers["Set-Cookie"].partition(";")[0]
    assert wiki.ask("/docs/b", Cookie=held).headers["Set-Cookie"].partition(";")[0] == held
    assert (
        wiki.ask("/docs/b", Cookie="__Host-tessera-state=planted").headers["Set-Cookie"].partition(";")[0]
        != "__Host-tessera-state=planted"
    )
    for asked in ({"method": "POST"}, {"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Mode": "no-cors"}):
        answer = wiki.ask("/docs/a", Cookie="", **asked)
        assert answer.status_code == 401
        assert "Location" not in answer.headers
        assert "Set-Cookie" not in answer.headers


def test_who_may_not_enter_gets_no_code(wiki: Wiki) -> None:
    wiki.person("gast")
    browser = wiki.browser()
    browser.sign_in("gast")
    first = wiki.ask("/docs/a", Cookie="")
    answer = browser.follow(browser.go(first.headers["Location"].partition("localhost:8000")[2]))
    assert answer.status_code == 403
    assert "Location" not in answer.headers


def test_what_passes_is_done_and_counts_as_an_act(wiki: Wiki) -> None:
    assert wiki.ask("/vouchers/1", "POST").status_code == 200
    answer = wiki.ask("/vouchers/1", "PUT")
    assert (answer.status_code, answer.json["reason"]) == (403, "sod_object")


def test_a_permit_that_binds_whoever_carries_it_out_is_none_for_a_proxy(wiki: Wiki) -> None:
    answer = wiki.ask("/bound/a")
    assert (answer.status_code, answer.json["reason"]) == (403, "obligation")
    refused, decided = wiki.records()[-1], wiki.records()[-2]
    assert (refused["kind"], refused["reason"]) == ("forward.request.refused", "obligation")
    assert (decided["kind"], decided["result"]) == ("access.decision.made", "permit")
