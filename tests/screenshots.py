"""The pictures of `docs/screenshots`, made anew by `python -m tests.screenshots`: each page in both languages, wide and
narrow, of the demo company on a server of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Page, sync_playwright

from identity.keys.wrap import make_private_file
from tests.servers import branch
from tests.servers.branch import Branch
from tests.servers.browser import Seeds, give_password, launch, sign_in, visitor
from tests.servers.site import CONSOLE, EXPENSE, OA, SSO, Site

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "screenshots"
LARGEST = 150 * 1_024
WIDTHS = {1440: 720, 390: 844}
LANGUAGES = ("en", "zh")
TRIED = "login=ouyang&field=name&expression=entry.sn[0] %2B entry.givenname[0]"
DECISION = "/admin/audit?kind=access.decision.made&application=expense&result=deny"


def _public(path: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        page.goto(f"https://{SSO}{path}")

    return go


def _console(path: str, link: str = "") -> Callable[[Page], None]:
    """To a page of the console, and on by the first link that fits."""

    def go(page: Page) -> None:
        page.goto(f"https://{CONSOLE}{path}")
        if link:
            page.locator(link).first.click()
            page.wait_for_selector(".crumbs")

    return go


def _enrol(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin")
    give_password(page, "sysadmin")
    page.wait_for_selector("form.card code")


def _second_factor(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin")
    give_password(page, "secadmin")
    page.wait_for_selector("input[name=code]")


def _refused_password(page: Page) -> None:
    page.goto(f"https://{SSO}/")
    give_password(page, "zhaoliu", "not the right one")
    page.wait_for_selector("[role=alert]")


def _preview(page: Page) -> None:
    page.goto(
        f"https://{CONSOLE}/admin/mappings/new?source=group%7Cpurchase-approvers&role=expense:部门审批人&limit=3000.00"
    )
    page.locator("form.stack button.primary").click()
    page.wait_for_selector("input[name=reason]")


def _report(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin/reports")
    page.locator("form[action='/admin/reports'] button").first.click()
    page.wait_for_selector(".crumbs")


def _hand_over(page: Page) -> None:
    page.goto(f"https://{CONSOLE}/admin/audit?application=expense&kind=access.decision.made")
    page.locator("main details summary").last.click()
    page.locator("form[action='/admin/audit/evidence'] button").scroll_into_view_if_needed()


def _evidence(page: Page) -> None:
    _hand_over(page)
    page.fill("form[action='/admin/audit/evidence'] input[name=reason]", "year-end audit")
    page.fill("form[action='/admin/audit/evidence'] input[name=reference]", "AUD-2026-07")
    page.click("form[action='/admin/audit/evidence'] button")
    page.wait_for_selector("#packs tbody")


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
    _console(DECISION, "tbody a")(page)
    page.click(".actions .primary")
    page.wait_for_selector(".verdict")


def _expired(page: Page) -> None:
    page.goto(f"https://{SSO}/")
    give_password(page, branch.EXPIRED)
    page.wait_for_selector("form[action='/login/change']")


def _expired_refused(page: Page) -> None:
    _expired(page)
    for name, text in (("old", "not the old one"), ("new", "a new sentence"), ("again", "a new sentence")):
        page.fill(f"input[name={name}]", text)
    page.click("main button.primary")
    page.wait_for_selector("#fault")


BRANCH: dict[str, tuple[str, Callable[[Page], None]]] = {
    "sync-probe": (branch.ADMINISTRATOR, _console(f"/admin/sync/{branch.CODE}/probe")),
    "sync-try": (branch.ADMINISTRATOR, _console(f"/admin/sync/{branch.CODE}/try?{TRIED}")),
    "sync-write-back": (branch.ADMINISTRATOR, _console(f"/admin/sync/{branch.CODE}/write-back")),
    "sync-branch": (branch.ADMINISTRATOR, _console("/admin/sync")),
    "user-branch": ("secadmin", _console("/admin/users?q=ouyang", "tbody a")),
    "password-expired": ("", _expired),
    "password-expired-refused": ("", _expired_refused),
}
"""Pages of a branch with a directory of its own."""

PAGES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "sign-in": ("", _public("/")),
    "sign-in-refused": ("", _refused_password),
    "second-factor": ("", _second_factor),
    "second-factor-new": ("", _enrol),
    "setup": ("", _public("/setup")),
    "not-found": ("", _public("/nowhere")),
    "portal": ("zhangsan", _public("/")),
    "account": ("zhangsan", _public("/account")),
    "account-factor": ("zhangsan", _public("/account/factor")),
    "sign-out": ("zhangsan", _public("/logout")),
    "overview": ("secadmin", _console("/admin")),
    "users": ("secadmin", _console("/admin/users")),
    "user": ("secadmin", _console("/admin/users?q=lisi", "tbody a")),
    "groups": ("secadmin", _console("/admin/groups")),
    "group": ("secadmin", _console("/admin/groups", "tbody a")),
    "roles": ("secadmin", _console("/admin/roles")),
    "role": ("secadmin", _console("/admin/roles/business%3Adept-approver")),
    "mappings": ("secadmin", _console("/admin/mappings?application=expense")),
    "mapping-form": ("secadmin", _console("/admin/mappings/new")),
    "mapping-preview": ("secadmin", _preview),
    "assignments": ("secadmin", _console("/admin/assignments")),
    "grants": ("secadmin", _console("/admin/grants")),
    "administrators": ("secadmin", _console("/admin/administrators")),
    "duties": ("secadmin", _console("/admin/duties")),
    "policy": ("secadmin", _console("/admin/policy")),
    "holdings": ("secadmin", _console("/admin/holdings")),
    "applications": ("secadmin", _console("/admin/applications")),
    "application": ("secadmin", _console("/admin/applications/expense")),
    "sync": ("secadmin", _console("/admin/sync")),
    "sync-held": ("secadmin", _console("/admin/sync", "tbody a")),
    "sync-run": ("secadmin", _console("/admin/sync", "tbody tr:last-child a")),
    **BRANCH,
    "audit": ("auditor", _console("/admin/audit?application=expense")),
    "audit-record": ("auditor", _console(DECISION, "tbody a")),
    "audit-hand-over": ("auditor", _hand_over),
    "evidence": ("auditor", _evidence),
    "proof": ("auditor", _console("/admin/audit/proof")),
    "reports": ("auditor", _console("/admin/reports")),
    "report": ("auditor", _report),
    "alarms": ("auditor", _console("/admin/alarms")),
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


def make(
    folder: Path, pages: tuple[str, ...], *, whole: bool = False, scheme: Literal["light", "dark"] = "light"
) -> None:
    """Write pictures of these pages: their first screen, or the `whole` of each."""
    folder.mkdir(parents=True, exist_ok=True)
    more = (branch.ADMINISTRATOR,) if BRANCH.keys() & set(pages) else ()
    with (
        tempfile.TemporaryDirectory(prefix="tessera-site-") as name,
        Site(Path(name), more) as site,
        Branch(Path(name) / "branch") as office,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright, site)
        seeds = Seeds()
        _live(visitor(browser), site)
        _administer(visitor(browser), site, seeds)
        if more:
            office.join(site)
            _write_back(visitor(browser), office, seeds)
        for language in LANGUAGES:
            for width, height in WIDTHS.items():
                viewers: dict[str, Page] = {}
                for title in pages:
                    login, go = PAGES[title]
                    page = viewers.get(login) or visitor(browser, language, width, height, color_scheme=scheme)
                    if login and login not in viewers:
                        viewers[login] = page
                        _arrive(page, login, seeds)
                    go(page)
                    page.screenshot(path=folder / f"{title}-{language}-{width}.png", full_page=whole)
                    if not login:
                        page.context.close()
                for page in viewers.values():
                    page.context.close()
        browser.close()


def _arrive(page: Page, login: str, seeds: Seeds) -> None:
    if login in {"secadmin", "auditor", branch.ADMINISTRATOR}:
        seeds.administer(page, login)
    else:
        sign_in(page, login)


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

    for login in ("chenyi", "zhaoliu"):
        for _ in range(6):
            page.context.clear_cookies()
            page.goto(f"https://{SSO}/")
            give_password(page, login, "a guess")
            page.wait_for_selector("[role=alert]")


def _administer(page: Page, site: Site, seeds: Seeds) -> None:
    """A day of administration: an assignment, a report of duties, a sync that the guard holds, a signed head."""
    seeds.administer(page, "secadmin", "/admin/assignments")
    page.fill("input[name=login]", "lisi")
    page.select_option("select[name=role]", "expense:财务审核")
    page.locator("form[action='/admin/assignments'] summary").click()
    page.fill("input[name=limit]", "2000.00")
    page.fill("input[name=reason]", "Stands in for the accountant")
    page.fill("input[name=reference]", "CHG-1024")
    page.click("main form button.primary")
    page.wait_for_selector("tbody")
    page.goto(f"https://{CONSOLE}/admin/duties")
    page.click(".head button")
    people = site.folder / "company.ldif"
    entries = people.read_text(encoding="utf-8").split("\n\n")
    leavers = {index for index, entry in enumerate(entries) if "dn: uid=" in entry}
    kept = [entry for index, entry in enumerate(entries) if index not in set(sorted(leavers)[-60:])]
    people.write_text("\n\n".join(kept), encoding="utf-8")
    site.flask("sync", "hq", status=1)
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    make_private_file(site.folder / "var" / "seal.key", key)
    site.flask("seal", "--once")


def _write_back(page: Page, office: Branch, seeds: Seeds) -> None:
    """Names, mail and phone are written back; two changes are not: one is refused, one is overtaken."""
    seeds.administer(page, branch.ADMINISTRATOR, f"/admin/sync/{branch.CODE}/write-back")
    for field in ("name", "mail", "phone"):
        page.check(f"input[value={field}]")
    page.fill("input[name=reason]", "The branch keeps no desk of its own")
    page.click("main form button.primary")
    page.wait_for_selector("input[value=mail]:checked")
    office.change("situ", "mail", "situ.jing@branch.example")
    page.context.clear_cookies()
    seeds.administer(page, "secadmin", "/admin")
    for login, field, value in (("ouyang", "phone", "+86 139 1111 1111"), ("situ", "mail", "jing@branch.example")):
        _console(f"/admin/users?q={login}", "tbody a")(page)
        page.fill(f"input[name={field}]", value)
        form = page.locator("form[action$='/profile']")
        form.locator("input[name=reason]").fill("Moved to another desk")
        form.locator("button.primary").click()
        page.wait_for_selector("main")
        while not page.locator("dd .badge.bad, dd .badge.warn").count():
            page.wait_for_timeout(500)
            page.reload()


if __name__ == "__main__":
    # FOLDER [light|dark [PAGE...]]: every page, the whole of it, to be looked at.
    if len(sys.argv) > 1:
        scheme: Literal["light", "dark"] = "dark" if "dark" in sys.argv[2:3] else "light"
        make(Path(sys.argv[1]), tuple(sys.argv[3:]) or tuple(PAGES), whole=True, scheme=scheme)
    else:
        make(FOLDER, KEPT)
