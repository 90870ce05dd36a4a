"""Relying parties that others wrote: each signs a person in by its own protocol and hears of the logout."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from identity.apps.inputs import ApplicationInput, CasInput, OidcInput, SamlInput
from identity.apps.service import get_application, put_application, put_cas_service, put_oidc_client, put_saml_sp
from identity.core.unit import Units
from identity.events.deliver import Composers, deliver_due
from identity.people.inputs import Profile
from identity.people.service import update_profile
from tests.integration.saml.sp import key_pair
from tests.servers.apache import Apache
from tests.servers.slapd import free_port
from tests.world import PASSWORD, World


@dataclass
class Parties:
    """The provider over HTTP and the relying parties beside it."""

    world: World
    provider: str
    apache: Apache


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Nothing on the terminal."""


@pytest.fixture
def parties(database_url: str, tmp_path: Path) -> Iterator[Parties]:
    port = free_port()
    provider = f"http://127.0.0.1:{port}"
    world = World(database_url, tmp_path, public_url=provider)
    server: BaseWSGIServer = make_server(
        "127.0.0.1", port, world.app.extensions["tessera_edge"], threaded=True, request_handler=_Quiet
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Apache(provider, *key_pair()) as apache:
            _register(world, apache.url)
            yield Parties(world, provider, apache)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        world.close()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as client:
        yield client


def _register(world: World, url: str) -> None:
    names = ("preferred_username", "name", "roles")
    with world.unit() as unit:
        put_application(unit, ApplicationInput(code="expense", name="报销", released_claims=names))
        app = get_application(unit, "expense")
        acs = [{"url": f"{url}/saml/mellon/postResponse", "default": True}]
        options = {"want_signed_requests": True, "slo_url": f"{url}/saml/mellon/logout"}
        saml = {"entity_id": f"{url}/saml/mellon/metadata", "acs": acs, "options": options}
        put_saml_sp(unit, app, SamlInput.model_validate({**saml, "signing_certificates": [key_pair()[1]]}))
        put_cas_service(unit, app, CasInput(url=f"{url}/cas/**", logout_url=f"{url}/cas/page"))
        oidc = {
            "client_id": "expense",
            "redirect_uris": [f"{url}/oidc/callback"],
            "scopes": ["openid", "profile", "roles"],
            "backchannel_logout_uri": f"{url}/oidc/callback?logout=backchannel",
        }
        put_oidc_client(unit, app, OidcInput.model_validate(oidc), world.secret)


class HttpBrowser:
    """A browser between two servers: cookies, redirects, auto-posting forms, our login form."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def go(self, url: str) -> httpx.Response:
        return self.follow(self.http.get(url))

    def follow(self, answer: httpx.Response) -> httpx.Response:
        """Go on until there is a page that asks for nothing but to be read."""
        for _ in range(20):
            if answer.is_redirect:
                answer = self.http.get(urljoin(str(answer.url), answer.headers["Location"]))
            elif "data-autopost" in answer.text:
                action = re.search(r'action="([^"]*)" data-autopost', answer.text)
                assert action
                answer = self.http.post(urljoin(str(answer.url), unescape(action[1])), data=hidden(answer))
            elif 'name="password"' in answer.text:
                data = {**hidden(answer), "login": "zhang", "password": PASSWORD}
                answer = self.http.post(urljoin(str(answer.url), "/login"), data=data)
            else:
                return answer
        raise AssertionError(f"no end at {answer.url}")


def hidden(answer: httpx.Response) -> dict[str, str]:
    """The hidden fields of the page's own form."""
    fields = re.findall(r'<input type="hidden" name="([A-Za-z_]+)" value="([^"]*)"', answer.text)
    return {name: unescape(value) for name, value in fields}


@pytest.mark.parametrize("module", ["saml", "cas", "oidc"])
def test_a_module_signs_a_person_in_and_hears_of_the_logout(parties: Parties, http: httpx.Client, module: str) -> None:
    world, apache = parties.world, parties.apache
    person = world.person("zhang", "staff")
    with world.unit() as unit:
        update_profile(unit, person, Profile(name="张三"))
    browser = HttpBrowser(http)
    answer = browser.go(f"{apache.url}/{module}/page")
    assert (answer.status_code, answer.text.strip()) == (200, "in"), (
        answer.status_code,
        answer.text[:500],
        apache.log(),
    )
    assert answer.headers["X-User"] == "zhang"
    assert answer.headers["X-Name"] == "张三"
    # The session of the module stands on its own: it does not ask again.
    assert browser.http.get(f"{apache.url}/{module}/page").status_code == 200
    page = browser.http.get(f"{parties.provider}/logout")
    out = browser.follow(browser.http.post(f"{parties.provider}/logout", data=hidden(page)))
    assert "You are signed out." in out.text, apache.log()
    assert "could not be told" not in out.text
    with world.unit() as unit:
        now = unit.now
    # SAML went through the browser; the others hear from the outbox.
    assert deliver_due(world.things[Units], now, world.things[Composers]) == (0 if module == "saml" else 1)
    assert browser.http.get(f"{apache.url}/{module}/page").status_code in {302, 303}, apache.log()


def test_a_logout_at_mellon_ends_the_session_here(parties: Parties, http: httpx.Client) -> None:
    parties.world.person("zhang", "staff")
    browser = HttpBrowser(http)
    page = f"{parties.apache.url}/saml/page"
    assert browser.go(page).text.strip() == "in"
    left = browser.go(f"{parties.apache.url}/saml/mellon/logout?ReturnTo={parties.apache.url}/saml/mellon/metadata")
    assert left.url.path == "/saml/mellon/metadata", parties.apache.log()
    ended = [one["reason"] for one in parties.world.records() if one["kind"] == "login.session.ended"]
    assert ended == ["saml_logout"]
    assert browser.http.get(page).is_redirect
