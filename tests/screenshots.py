"""The pictures of `docs/screenshots`, made anew by `python -m tests.screenshots`: each page in both languages, wide and
narrow, of the demo company on a server of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.servers.browser import Seeds, launch, sign_in, visitor
from tests.servers.site import CONSOLE, EXPENSE, OA, SSO, Site

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "screenshots"
LARGEST = 150 * 1_024
WIDTHS = {1440: 720, 390: 844}
LANGUAGES = ("en", "zh")


def _portal(page: Page) -> None:
    page.goto(f"https://{SSO}/")


def _account(page: Page) -> None:
    page.goto(f"https://{SSO}/account")


def _console(path: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        page.goto(f"https://{CONSOLE}{path}")

    return go


def _user(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin/users?q=lisi")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".crumbs")


def _preview(page: Page) -> None:
    page.goto(
        f"https://{CONSOLE}/admin/mappings/new?source=group%7Cpurchase-approvers&role=expense:部门审批人&limit=3000.00"
    )
    page.locator("form.stack button.primary").click()
    page.wait_for_selector("input[name=reason]")


def _run(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin/sync")
    page.locator("tbody a").last.click()
    page.wait_for_selector(".crumbs")


def _record(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin/audit?kind=access.decision.made&application=expense&result=deny")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".crumbs")


def _why(page: Page) -> None:
    page.goto(
        f"https://{CONSOLE}/admin/explain?person=lisi&application=expense&action=approve&type=claim"
        "&object=BX-2026-0001&company=XH01&org_unit=RD&amount=3000.00&submitter=zhangsan"
    )
    page.wait_for_selector(".verdict")


def _why_denied(page: Page) -> None:
    _why(page)
    page.fill("input[name=amount]", "8000.00")
    page.fill("input[name=org_unit]", "FI")
    page.click("main form.panel button.primary")
    page.wait_for_selector(".verdict.bad")


def _why_recorded(page: Page) -> None:
    _record(page)
    page.click(".actions .primary")
    page.wait_for_selector(".verdict")


PAGES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "sign-in": ("", _portal),
    "portal": ("zhangsan", _portal),
    "account": ("zhangsan", _account),
    "overview": ("secadmin", _console("/admin")),
    "users": ("secadmin", _console("/admin/users")),
    "user": ("secadmin", _user),
    "groups": ("secadmin", _console("/admin/groups")),
    "roles": ("secadmin", _console("/admin/roles")),
    "role": ("secadmin", _console("/admin/roles/business%3Adept-approver")),
    "mappings": ("secadmin", _console("/admin/mappings?application=expense")),
    "mapping-form": ("secadmin", _console("/admin/mappings/new")),
    "mapping-preview": ("secadmin", _preview),
    "applications": ("secadmin", _console("/admin/applications")),
    "application": ("secadmin", _console("/admin/applications/expense")),
    "sync": ("secadmin", _console("/admin/sync")),
    "sync-run": ("secadmin", _run),
    "audit": ("auditor", _console("/admin/audit?application=expense")),
    "audit-record": ("auditor", _record),
    "why": ("secadmin", _why),
    "why-denied": ("secadmin", _why_denied),
    "why-recorded": ("auditor", _why_recorded),
}
"""Name → (who looks, how to get there)."""

# What is kept in the repository; the rest is for looking at.
KEPT = (
    "sign-in",
    "portal",
    "account",
    "overview",
    "user",
    "mappings",
    "mapping-preview",
    "application",
    "sync-run",
    "audit",
)


def names() -> set[str]:
    """The files of the folder."""
    return {f"{page}-{language}-{width}.png" for page in KEPT for language in LANGUAGES for width in WIDTHS}


def make(folder: Path, pages: tuple[str, ...]) -> None:
    """Write pictures of these pages."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="tessera-site-") as name,
        Site(Path(name)) as site,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright, site)
        seeds = Seeds()
        _live(visitor(browser), site)
        for language in LANGUAGES:
            for width, height in WIDTHS.items():
                viewers: dict[str, Page] = {}
                for title in pages:
                    login, go = PAGES[title]
                    if login not in viewers:
                        viewers[login] = visitor(browser, language, width, height)
                        if login in {"secadmin", "auditor"}:
                            seeds.administer(viewers[login], login)
                        elif login:
                            sign_in(viewers[login], login)
                    page = viewers[login]
                    go(page)
                    page.screenshot(path=folder / f"{title}-{language}-{width}.png")
                for page in viewers.values():
                    page.context.close()
        browser.close()


def _live(page: Page, site: Site) -> None:
    """A little of a day's work, so that there is something to see."""
    page.goto(f"https://{EXPENSE}/")
    page.fill("input[name=login]", "zhangsan")
    page.fill("input[name=password]", "a wrong one")
    page.click("main button.primary")
    sign_in(page, "zhangsan")
    for host in (EXPENSE, OA):
        page.goto(f"https://{host}/")
        page.wait_for_selector("h1")
    subject = {"type": "user", "id": site.expense.subjects["zhangsan"]}
    secret = ("expense", site.secrets["EXPENSE_PDP_SECRET"])
    for action in ("submit", "approve", "pay"):
        body = {
            "subject": subject,
            "action": {"name": action},
            "resource": {"type": "claim", "id": "BX-2026-0001", "properties": {"company": "XH01", "org_unit": "RD"}},
        }
        site.call("POST", "/access/v1/evaluation", json=body, auth=secret)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make(Path(sys.argv[1]), tuple(sys.argv[2:]) or tuple(PAGES))
    else:
        make(FOLDER, KEPT)
