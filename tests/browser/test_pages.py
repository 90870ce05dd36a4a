"""Every page in Chromium: nothing that axe-core calls serious, nothing that the policy refuses, no overflow."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.servers.browser import Seeds, sign_in, visitor
from tests.servers.site import CONSOLE, SSO

pytestmark = pytest.mark.timeout(300)

PLACES = (
    *("/admin", "/admin/users", "/admin/users?q=nobody-at-all", "/admin/groups", "/admin/roles", "/admin/mappings"),
    *("/admin/roles/business%3Adept-approver", "/admin/mappings/new", "/admin/applications"),
    *("/admin/policy", "/admin/policy/versions/1", "/admin/holdings", "/admin/holdings?at=2026-01-01"),
    *("/admin/applications/expense", "/admin/applications/oa", "/admin/applications/erp", "/admin/sync"),
    "/admin/nowhere",
)

# How wide the window is in which somebody of this language clicks; every page is looked at in both.
WIDTHS = {"en": 1440, "zh": 390}


@cache
def axe() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def check(page: Page) -> None:
    """The page is usable in both widths: by a screen reader, by keyboard, and without scrolling sideways."""
    page.evaluate(axe())
    size = page.viewport_size
    assert size is not None
    for width in sorted(WIDTHS.values(), key=lambda one: one == size["width"]):  # its own is the last
        page.set_viewport_size({"width": width, "height": size["height"]})
        found: list[dict[str, Any]] = page.evaluate(
            "async () => (await axe.run({resultTypes: ['violations']})).violations"
        )
        grave = [
            (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]
        assert grave == [], (page.url, width)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{page.url} is {wide} px too wide for {width}"


def listening(page: Page) -> list[str]:
    """What the browser complains about from now on: refused scripts and styles, faults in scripts."""
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if "Security Policy" in message.text else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_employees_pages_are_sound(browser: Browser, language: str) -> None:
    page = visitor(browser, language, WIDTHS[language])
    heard = listening(page)
    page.goto(f"https://{SSO}/")
    check(page)
    sign_in(page, "zhangsan")
    check(page)
    for place in ("/account", "/account/factor", "/logout", "/nowhere"):
        page.goto(f"https://{SSO}{place}")
        expect(page.locator("h1")).to_be_visible()
        check(page)
    assert heard == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_consoles_pages_are_sound(browser: Browser, seeds: Seeds, language: str) -> None:
    page = visitor(browser, language, WIDTHS[language])
    heard = listening(page)
    seeds.administer(page, "secadmin")
    for place in PLACES:
        page.goto(f"https://{CONSOLE}{place}")
        expect(page.locator("h1")).to_be_visible()
        check(page)
    for place, link in (
        ("/admin/users?q=lisi", "tbody a"),
        ("/admin/groups?q=dept-rd", "tbody a"),
        ("/admin/sync", "tbody a"),
        ("/admin/mappings?q=dept-approver", "tbody td.end a"),
    ):
        page.goto(f"https://{CONSOLE}{place}")
        page.locator(link).first.click()
        expect(page.locator(".crumbs")).to_be_visible()
        check(page)
    page.locator("form.stack button.primary").click()
    expect(page.locator("input[name=reason]")).to_be_visible()
    check(page)
    assert heard == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_auditors_pages_are_sound(browser: Browser, seeds: Seeds, language: str) -> None:
    page = visitor(browser, language, WIDTHS[language])
    heard = listening(page)
    seeds.administer(page, "auditor", "/admin/audit")
    check(page)
    page.goto(f"https://{CONSOLE}/admin/audit?kind=login.session.started")
    expect(page.locator("tbody tr").first).to_be_visible()
    check(page)
    page.locator("tbody a").first.click()
    expect(page.locator("details pre")).to_be_attached()
    check(page)
    assert heard == []


def test_a_page_is_left_and_reached_by_keyboard(browser: Browser) -> None:
    page = visitor(browser)
    sign_in(page, "zhangsan")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".tile").first).to_be_focused()
