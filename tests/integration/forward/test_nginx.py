"""A real nginx, configured as the manual says, before an application that knows no sign-in protocol."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin
from uuid import UUID

import httpx
import pytest
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from identity.login.logout import LogoutNotifiers, end_sessions_of_user
from identity.people.inputs import GroupInput, Profile
from identity.people.service import set_user_state, update_profile
from identity.people.service_groups import change_members, put_group
from tests.integration.forward.wiki import company
from tests.servers.nginx import Nginx
from tests.servers.slapd import free_port
from tests.world import PASSWORD, World


@dataclass
class Place:
    world: World
    provider: str
    wiki: Nginx
    user: UUID


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Nothing on the terminal."""


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    port, host_port = free_port(), free_port()
    provider = f"http://127.0.0.1:{port}"
    world = World(database_url, tmp_path, company(f"http://localhost:{host_port}"), public_url=provider)
    user = world.person("zhang", "staff")
    with world.unit() as unit:
        update_profile(unit, user, Profile(name="张三"))
    server: BaseWSGIServer = make_server(
        "127.0.0.1", port, world.app.extensions["tessera_edge"], threaded=True, request_handler=_Quiet
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Nginx(host_port, provider, ("wiki", world.secret)) as wiki:
            yield Place(world, provider, wiki, user)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        world.close()


class Visitor:
    """A browser between the two hosts."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.http = httpx.Client(timeout=20, headers={"Accept-Language": "en"})

    def open(self, path: str, **headers: str) -> httpx.Response:
        """Follow redirects, through our login form where it is shown."""
        answer = self.http.get(urljoin(self.place.wiki.origin, path), headers=headers)
        for _ in range(10):
            if answer.is_redirect:
                answer = self.http.get(urljoin(str(answer.url), answer.headers["Location"]))
            elif 'name="password"' in answer.text:
                found = re.findall(r'<input type="hidden" name="(csrf_token|tx)" value="([^"]*)"', answer.text)
                data = {name: unescape(value) for name, value in found} | {"login": "zhang", "password": PASSWORD}
                answer = self.http.post(f"{self.place.provider}/login", data=data)
            else:
                break
        return answer

    def ask(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        return self.http.request(method, urljoin(self.place.wiki.origin, path), headers=headers)


@pytest.fixture
def browsers(place: Place) -> Iterator[Callable[[], Visitor]]:
    """Makes browsers, each with cookies of its own."""
    with ExitStack() as opened:

        def make() -> Visitor:
            made = Visitor(place)
            opened.enter_context(made.http)
            return made

        yield make


@pytest.fixture
def visitor(browsers: Callable[[], Visitor]) -> Visitor:
    return browsers()


def test_a_person_is_sent_to_sign_in_and_comes_back_to_the_page(
    place: Place, visitor: Visitor, browsers: Callable[[], Visitor]
) -> None:
    page = visitor.open("/docs/a?q=1&r=%2F")
    assert page.status_code == 200
    assert str(page.url) == f"{place.wiki.origin}/docs/a?q=1&r=%2F"
    assert page.text == "user=zhang name=%E5%BC%A0%E4%B8%89 roles=reader path=/docs/a?q=1&r=%2F"
    forged = {"X-Auth-User": "admin", "X_Auth_User": "admin", "X-Forwarded-Uri": "/docs/b", "X_Forwarded_Uri": "/docs"}
    assert visitor.ask("/docs/b", **forged).text.startswith("user=zhang ")
    assert visitor.ask("/secret", **forged).status_code == 403
    kinds = [one["kind"] for one in place.world.records()]
    assert "forward.session.started" in kinds
    decisions = [one for one in place.world.records() if one["kind"] == "access.decision.made"]
    assert (decisions[-1]["resource_id"], decisions[-1]["result"]) == ("secret", "deny")
    assert browsers().ask("/docs/a", **forged).status_code == 302


def test_the_policy_decides_path_and_method_anew_each_time(place: Place, visitor: Visitor) -> None:
    assert visitor.open("/docs/a").status_code == 200
    assert visitor.ask("/").status_code == 403
    assert visitor.ask("/docs/a", "POST").status_code == 403
    assert visitor.ask("/docs/a", "HEAD").status_code == 200
    assert visitor.ask("/docs/../secret").status_code == 403
    assert visitor.ask("/docs/%2e%2e/secret").status_code == 403
    with place.world.unit() as unit:
        group = put_group(unit, GroupInput(name="staff", display_name="staff"))
        change_members(unit, group.id, remove=[place.user])
    place.world.fresh()
    assert visitor.ask("/docs/a").status_code == 403


@pytest.mark.parametrize("end", ["logout", "disabled"])
def test_the_session_at_the_host_ends_with_the_persons(place: Place, visitor: Visitor, end: str) -> None:
    assert visitor.open("/docs/a").status_code == 200
    with place.world.unit() as unit:
        if end == "logout":
            end_sessions_of_user(unit, place.user, "logout", place.world.things[LogoutNotifiers])
        else:
            set_user_state(unit, place.user, "disabled", cause="test")
    place.world.fresh()
    answer = visitor.ask("/docs/a")
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{place.provider}/forward/start?")
    assert visitor.ask("/docs/a", **{"Sec-Fetch-Mode": "cors"}).status_code == 401
    assert visitor.ask("/docs/a", "POST").status_code == 401


def test_a_code_opens_nothing_in_another_browser_nor_twice(
    place: Place, visitor: Visitor, browsers: Callable[[], Visitor]
) -> None:
    codes: list[str] = []

    def note(request: httpx.Request) -> None:
        if request.url.path == "/_tessera/callback":
            codes.append(str(request.url))

    visitor.http.event_hooks["request"].append(note)
    assert visitor.open("/docs/a").status_code == 200
    [used] = codes
    assert visitor.http.get(used).status_code == 400
    thief, victim = browsers(), browsers()
    lure = thief.ask("/docs/a")
    while not lure.headers.get("Location", "").startswith(place.wiki.origin):
        lure = _step(thief, lure)
    planted = lure.headers["Location"]
    assert victim.http.get(planted).status_code == 400
    assert victim.ask("/docs/a").status_code == 302
    assert thief.http.get(planted).status_code == 400, "a code that was shown anywhere is spent"


def _step(visitor: Visitor, answer: httpx.Response) -> httpx.Response:
    """One step of the sign-in, not following what leads to the host."""
    if answer.is_redirect:
        return visitor.http.get(urljoin(str(answer.url), answer.headers["Location"]))
    found = re.findall(r'<input type="hidden" name="(csrf_token|tx)" value="([^"]*)"', answer.text)
    data = {name: unescape(value) for name, value in found} | {"login": "zhang", "password": PASSWORD}
    return visitor.http.post(f"{visitor.place.provider}/login", data=data)
