"""The console as a surface of its own: its origin, its networks, its cookie and its times (foundations §7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from werkzeug.test import Client

from identity.core.web import Protection
from identity.login import authenticate
from identity.roles.service_assignments import bootstrap_administrator
from tests.conftest import KINDS, server_of
from tests.security.town import PASSWORD, TOWN, Town, form_of
from tests.servers.templates import Templates
from tests.world import Browser

ADMIN = "http://admin.localhost:8000"


@pytest.fixture(scope="module", params=KINDS)
def keep(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Town]:
    """A town whose console has an origin and networks of its own."""
    folder = tmp_path_factory.mktemp("keep")
    settings = {"admin_url": ADMIN, "admin_networks": ("127.0.0.0/8",)}
    made = templates.world(templates.address(server_of(request), folder), folder, TOWN, kind=Town, **settings)
    with made.unit() as unit:
        made_boss = bootstrap_administrator(unit, "boss", "Boss", ["security-admin"])
        authenticate.set_password(unit, made_boss, PASSWORD)
    yield made
    made.close()


@pytest.fixture
def desk(keep: Town) -> Browser:
    """The administrator's browser at the console's origin, signed in."""
    edge = keep.app.extensions["tessera_edge"]
    browser = Browser(Client(lambda environ, start: edge({"REMOTE_ADDR": "127.0.0.1", **environ}, start)), ADMIN)
    browser.sign_in("boss", start="/admin")
    assert browser.go("/admin").status_code == 200
    return browser


def test_the_console_answers_on_its_own_origin_only(keep: Town, desk: Browser) -> None:
    browser = keep.browser()
    for path in ("/admin", "/console/enter", "/console/resume", "/admin/users"):
        assert browser.go(path).status_code == 403, path
    kept = desk.client.get_cookie("tessera_demo_admin", "admin.localhost")
    assert kept is not None
    browser.client.set_cookie("tessera_demo_admin", kept.value, domain="localhost")
    assert browser.go("/admin").status_code == 403
    assert browser.go("/").status_code == 303  # and it is no session of the portal


@pytest.mark.case("HD-03")
@pytest.mark.parametrize("address", ["192.0.2.1", "", "not an address", "127.0.0.1.evil"])
def test_the_console_answers_to_its_own_networks_only(keep: Town, desk: Browser, address: str) -> None:
    for path in ("/admin", "/console/enter"):
        answer = desk.client.get(
            path,
            base_url=ADMIN,
            environ_overrides={"REMOTE_ADDR": address},
            headers={"X-Forwarded-For": "127.0.0.1"},
        )
        assert answer.status_code == 403


@pytest.mark.case("SE-03")
def test_a_console_session_ends_after_a_quarter_of_an_hour_or_eight(keep: Town, desk: Browser) -> None:
    for minutes in (10, 20, 30):
        with keep.later(minutes=minutes):
            assert desk.go("/admin").status_code == 200
    with keep.later(minutes=46):
        assert desk.go("/admin").status_code == 303
    desk.sign_in("boss", start="/admin")
    for minutes in range(10, 480, 10):
        with keep.later(minutes=minutes):
            assert desk.go("/admin").status_code == 200
    with keep.later(minutes=481):
        assert desk.go("/admin").status_code == 303


@pytest.mark.case("SE-10", "CS-05")
def test_grants_and_rules_are_changed_after_a_fresh_sign_in_only(keep: Town, desk: Browser) -> None:
    form = form_of(desk.go("/admin"))
    fresh = []
    for rule in keep.app.url_map.iter_rules():
        protection: Protection | None = getattr(keep.app.view_functions[rule.endpoint], "protection", None)
        if protection is not None and protection.kind == "permission" and protection.fresh:
            fresh.append(rule)
    assert {rule.endpoint.partition(".")[2] for rule in fresh} >= {"save_mapping"} or len(fresh) >= 4
    with keep.later(minutes=6):
        for rule in fresh:
            path = rule.rule
            for name in rule.arguments:
                path = path.replace(f"<{name}>", "x").replace(f"<uuid:{name}>", "0192f0c0-0000-7000-8000-000000000000")
            if "POST" in (rule.methods or ()):
                answer = desk.client.post(path, data=form, base_url=ADMIN)
                assert (answer.status_code, answer.headers["Location"][-7:]) == (303, "again=1"), path
        assert desk.go("/admin").status_code == 200
