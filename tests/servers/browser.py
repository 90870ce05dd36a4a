"""A real Chromium, driven by Playwright; each visitor is a context of its own with empty cookies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyotp
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from tests.servers.site import CONSOLE, PASSWORD, SSO, Site

FLAGS = (
    *("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
LANGUAGE = {"en": "en-GB", "zh": "zh-CN"}


def launch(playwright: Playwright, site: Site) -> Browser:
    """A browser that finds our host names and trusts our certificate's key."""
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_flags(site))


@contextmanager
def strict(playwright: Playwright, site: Site, folder: Path) -> Iterator[BrowserContext]:
    """A context of a browser whose user blocks third-party cookies, as a preference of its profile."""
    profile = folder / "Default"
    profile.mkdir(parents=True)
    (profile / "Preferences").write_text(
        json.dumps({"profile": {"cookie_controls_mode": 1, "block_third_party_cookies": True}})
    )
    context = playwright.chromium.launch_persistent_context(
        folder, executable_path="/usr/bin/chromium", args=_flags(site), locale=LANGUAGE["en"]
    )
    try:
        yield context
    finally:
        context.close()


def _flags(site: Site) -> list[str]:
    return [
        *FLAGS,
        f"--host-resolver-rules={site.resolver_rules}",
        f"--ignore-certificate-errors-spki-list={site.tls.spki}",
    ]


def visitor(browser: Browser, language: str = "en", width: int = 1440, height: int = 900, **options: Any) -> Page:
    """A page of a new visitor."""
    context = browser.new_context(
        locale=LANGUAGE[language], viewport={"width": width, "height": height}, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    return page


def give_password(page: Page, login: str, password: str = PASSWORD) -> None:
    """Fill in the login page that is shown."""
    page.fill("input[name=login]", login)
    page.fill("input[name=password]", password)
    page.click("main button.primary")


def sign_in(page: Page, login: str) -> None:
    """Sign in to the portal."""
    page.goto(f"https://{SSO}/")
    give_password(page, login)
    page.wait_for_selector("h1.greeting")


class Seeds:
    """Second factors by login: enrolled at the first sign-in to the console, used at the next ones."""

    def __init__(self) -> None:
        self._seeds: dict[str, str] = {}
        self._used: dict[str, int] = {}

    def administer(self, page: Page, login: str, start: str = "/admin") -> None:
        """Sign in to the console and arrive at `start`."""
        page.goto(f"https://{CONSOLE}{start}")
        give_password(page, login)
        page.wait_for_selector("input[name=code]")
        if login not in self._seeds:
            self._seeds[login] = page.locator("form.card code").inner_text()
        page.fill("input[name=code]", self._code(page, login))
        page.click("main button.primary")
        page.wait_for_selector("ul.codes, .console")
        if page.locator("ul.codes").count():
            page.click("main a.button.primary")
        page.wait_for_selector(".console")

    def _code(self, page: Page, login: str) -> str:
        """A code that was not used before: each counts once, so the next step's is taken where one is left over."""
        now = int(page.evaluate("Date.now()") // 1_000) // 30
        step = max(now - 1, self._used.get(login, 0) + 1)
        self._used[login] = step
        return pyotp.TOTP(self._seeds[login]).at(step * 30)
