"""A real Chromium, driven by Playwright; each visitor is a context of its own with empty cookies."""

from __future__ import annotations

import json
import time
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
def profile(playwright: Playwright, site: Site, folder: Path, *, blocks: bool) -> Iterator[BrowserContext]:
    """A browser whose user blocks third-party cookies or lets them be, by the preferences of its profile."""
    preferences = folder / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    chosen = {"cookie_controls_mode": int(blocks), "block_third_party_cookies": blocks}
    preferences.write_text(json.dumps({"profile": chosen}))
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
    """Second factors by login: enrolled at the first sign-in to the console, used at the next ones.

    A code counts once, so visitors that come within two minutes share one sign-in.
    """

    SHARED_S = 120

    def __init__(self) -> None:
        self._seeds: dict[str, str] = {}
        self._cookies: dict[str, tuple[float, list[Any]]] = {}

    def administer(self, page: Page, login: str, start: str = "/admin") -> None:
        """Sign in to the console and arrive at `start`."""
        at, cookies = self._cookies.get(login, (-self.SHARED_S, []))
        if time.monotonic() - at < self.SHARED_S:
            page.context.add_cookies(cookies)
            page.goto(f"https://{CONSOLE}{start}")
            page.wait_for_selector(".console")
            return
        page.goto(f"https://{CONSOLE}{start}")
        give_password(page, login)
        page.wait_for_selector("input[name=code]")
        if login not in self._seeds:
            self._seeds[login] = page.locator("form.card code").inner_text()
        page.fill("input[name=code]", pyotp.TOTP(self._seeds[login]).now())
        page.click("main button.primary")
        page.wait_for_selector("ul.codes, .console")
        if page.locator("ul.codes").count():
            page.click("main a.button.primary")
        page.wait_for_selector(".console")
        self._cookies[login] = (time.monotonic(), page.context.cookies())
