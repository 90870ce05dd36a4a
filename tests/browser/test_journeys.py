"""What people do, in a real browser, on four sites over TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from tests.servers.browser import Seeds, give_password, profile, sign_in, visitor
from tests.servers.site import CONSOLE, EXPENSE, OA, SSO, Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["third-party cookies allowed", "third-party cookies blocked"])
def context(
    request: pytest.FixtureRequest, playwright: Playwright, site: Site, tmp_path: Path
) -> Iterator[BrowserContext]:
    """A visitor with either habit, proved by a cookie in a frame of another site."""
    blocks = str(request.param).endswith("blocked")
    with profile(playwright, site, tmp_path / "profile", blocks=blocks) as made:
        _third_party_visits(made.new_page(), 1 if blocks else 2)
        yield made


def _third_party_visits(page: Page, seen: int) -> None:
    """How many of its own visits a frame of another site has seen at the second one."""
    page.goto(f"https://{EXPENSE}/whoami")
    for _ in range(2):
        page.evaluate(
            """address => new Promise(done => {
                const frame = document.createElement('iframe'); frame.src = address; frame.onload = done;
                document.body.replaceChildren(frame); })""",
            f"https://{OA}/frame",
        )
    expect(page.frame_locator("iframe").locator("#seen")).to_have_text(str(seen))
    page.close()


def test_one_sign_in_opens_two_applications_on_other_sites(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"https://{EXPENSE}/")
    expect(page).to_have_url(re.compile(f"^https://{SSO}/login"))
    expect(page.locator("main")).to_contain_text("to Expenses")
    give_password(page, "zhangsan")
    expect(page).to_have_url(f"https://{EXPENSE}/")
    expect(page.locator("h1")).to_have_text("Hello zhangsan")
    expect(page.locator("#roles")).to_have_text("普通员工")
    # The second application asks by a POST from its own site; no password is asked for again.
    page.goto(f"https://{OA}/")
    expect(page.locator("h1")).to_have_text("Hello zhangsan")
    expect(page.locator("#roles")).to_have_text("申请人")


def test_a_cross_site_post_is_answered_303_and_keeps_lax_cookies_working(context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, "zhangsan")
    seen: list[tuple[str, str, int, bool]] = []

    def note(response: object) -> None:
        request = response.request  # type: ignore[attr-defined]
        if request.url.startswith(f"https://{SSO}/saml/"):
            sent = request.all_headers().get("cookie", "")
            path = request.url.removeprefix(f"https://{SSO}").partition("?")[0]
            seen.append((request.method, path, response.status, "__Host-sid=" in sent))  # type: ignore[attr-defined]

    page.on("response", note)
    page.goto(f"https://{OA}/")
    expect(page.locator("h1")).to_have_text("Hello zhangsan")
    # The POST came without the session and was stored; the GET that followed had it.
    assert seen == [("POST", "/saml/sso", 303, False), ("GET", "/saml/resume", 200, True)]


def test_a_post_from_another_site_begins_a_sign_in_that_comes_back(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"https://{OA}/")
    expect(page).to_have_url(re.compile(f"^https://{SSO}/login"))
    give_password(page, "lisi")
    expect(page).to_have_url(f"https://{OA}/")
    expect(page.locator("#roles")).to_contain_text("审批人")


def test_the_policy_decides_which_tiles_there_are(browser: Browser) -> None:
    page = visitor(browser)
    sign_in(page, "zhangsan")
    expect(page.locator(".tile-name")).to_have_text(["ERP", "Expenses", "Office"])
    page.locator(".tile", has_text="Expenses").click()
    expect(page.locator("h1")).to_have_text("Hello zhangsan")
    outsider = visitor(browser)
    outsider.goto(f"https://{SSO}/")
    give_password(outsider, "auditor")
    expect(outsider.locator("input[name=code]")).to_be_visible()


def test_a_wrong_password_is_said_beside_the_form_and_may_be_tried_again(browser: Browser) -> None:
    page = visitor(browser)
    page.goto(f"https://{SSO}/")
    give_password(page, "wangwu", "not the right one")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is not right.")
    expect(page.locator("input[name=login]")).to_have_value("wangwu")
    expect(page.locator("input[name=password]")).to_be_focused()
    give_password(page, "wangwu")
    expect(page.locator("h1.greeting")).to_be_visible()


def test_a_mapping_changed_in_the_console_changes_what_the_application_is_told(browser: Browser, seeds: Seeds) -> None:
    admin, employee = visitor(browser), visitor(browser)
    employee.goto(f"https://{EXPENSE}/")
    give_password(employee, "zhangsan")
    expect(employee.locator("#roles")).to_have_text("普通员工")
    seeds.administer(admin, "secadmin", "/admin/mappings")
    admin.click("text=Add a mapping")
    admin.select_option("select[name=source]", "group|all-employees")
    admin.select_option("select[name=role]", "expense:档案管理员")
    admin.click("text=Preview")
    expect(admin.locator("tbody")).to_contain_text("zhangsan")
    expect(admin.locator(".figure", has_text="Gain a role").locator("b")).not_to_have_text("0")
    admin.fill("input[name=reason]", "a journey")
    admin.click("main button.primary")
    expect(admin.get_by_role("status")).to_contain_text("is in force")
    employee.context.clear_cookies(name="__Host-app")
    employee.goto(f"https://{EXPENSE}/")
    expect(employee.locator("#roles")).to_contain_text("档案管理员")
    # And back again, by removing the row.
    row = admin.locator("tr", has_text="all-employees").filter(has_text="档案管理员")
    row.get_by_role("button", name="Remove…").click()
    expect(admin.locator(".figure", has_text="Lose a role").locator("b")).not_to_have_text("0")
    admin.fill("input[name=reason]", "a journey back")
    admin.click("main button.primary")
    expect(admin.get_by_role("status")).to_contain_text("is in force")
    employee.context.clear_cookies(name="__Host-app")
    employee.goto(f"https://{EXPENSE}/")
    expect(employee.locator("#roles")).to_have_text("普通员工")


def test_sign_out_everywhere_ends_the_other_browser_and_its_tokens(browser: Browser, site: Site) -> None:
    first, second = visitor(browser), visitor(browser)
    second.goto(f"https://{EXPENSE}/")
    give_password(second, "sunqi")
    expect(second.locator("h1")).to_have_text("Hello sunqi")
    second.goto(f"https://{EXPENSE}/whoami")
    expect(second.locator("h1")).to_have_text("alive")
    sign_in(first, "sunqi")
    first.goto(f"https://{SSO}/logout")
    first.click("text=Sign out everywhere")
    expect(first.locator("h1")).to_have_text("You are signed out.")
    second.reload()
    expect(second.locator("h1")).to_have_text("dead")
    second.goto(f"https://{SSO}/")
    expect(second.locator("input[name=password]")).to_be_visible()


def test_one_session_of_my_own_can_be_ended_from_another(browser: Browser) -> None:
    here, there = visitor(browser), visitor(browser)
    sign_in(there, "zhouba")
    sign_in(here, "zhouba")
    here.goto(f"https://{SSO}/account")
    here.click("text=End all others")
    expect(here.locator("#sessions li")).to_have_count(1)
    there.reload()
    expect(there.locator("input[name=password]")).to_be_visible()


def test_the_language_is_the_browsers_until_it_is_switched(browser: Browser) -> None:
    page = visitor(browser, "zh")
    page.goto(f"https://{SSO}/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.locator("h1")).to_have_text("登录")
    page.click("text=English")
    expect(page.locator("h1")).to_have_text("Sign in")
    give_password(page, "zhangsan")
    expect(page.locator("h1.greeting")).to_contain_text("Hello")
    page.goto(f"https://{SSO}/account")
    page.click("text=简体中文")
    expect(page).to_have_url(f"https://{SSO}/account")
    expect(page.locator("h1")).to_have_text("我的账号")


def test_two_tabs_finish_their_own_sign_ins(browser: Browser) -> None:
    one = visitor(browser)
    other = one.context.new_page()
    one.goto(f"https://{EXPENSE}/")
    other.goto(f"https://{OA}/")
    expect(one.locator("main")).to_contain_text("to Expenses")
    expect(other.locator("main")).to_contain_text("to Office")
    give_password(one, "zhangsan")
    expect(one).to_have_url(f"https://{EXPENSE}/")
    # The second tab's page is older than the session; its sign-in still comes to its own application.
    give_password(other, "zhangsan")
    expect(other).to_have_url(f"https://{OA}/")
    expect(other.locator("h1")).to_have_text("Hello zhangsan")


def test_the_back_button_after_a_sign_in_leads_nowhere_bad(browser: Browser) -> None:
    page = visitor(browser)
    sign_in(page, "zhangsan")
    page.goto(f"https://{SSO}/account")
    page.go_back()
    expect(page.locator("h1.greeting")).to_be_visible()
    page.go_back()
    # The finished sign-in's form: sending it again is refused in words, or leads to the start; never a fault.
    if page.locator("input[name=password]").count():
        give_password(page, "zhangsan")
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("500")
    page.goto(f"https://{SSO}/logout")
    page.click("text=Sign out here")
    expect(page.locator("h1")).to_have_text("You are signed out.")
    page.go_back()
    page.reload()
    # What was shown before is not shown from a cache.
    page.goto(f"https://{SSO}/account")
    expect(page.locator("input[name=password]")).to_be_visible()


def test_two_administrators_at_once_the_second_is_told(browser: Browser, seeds: Seeds) -> None:
    first = visitor(browser)
    seeds.administer(first, "secadmin", "/admin/mappings/new")
    second = first.context.new_page()
    second.set_default_timeout(20_000)
    for page, role in ((first, "oa:只读"), (second, "erp:只读")):
        page.goto(f"https://{CONSOLE}/admin/mappings/new")
        page.select_option("select[name=source]", "group|buyers")
        page.select_option("select[name=role]", role)
        page.click("text=Preview")
        page.fill("input[name=reason]", "both at once")
    first.click("main button.primary")
    expect(first.get_by_role("status")).to_contain_text("is in force")
    second.click("main button.primary")
    expect(second.locator("main")).to_contain_text("The rules have changed since this page was loaded.")
    expect(second.locator("main")).to_contain_text("Nothing was changed.")
    second.click("text=Load the page again")
    expect(second.locator("select[name=role]")).to_have_value("erp:只读")


def test_the_pages_work_without_scripts(browser: Browser, seeds: Seeds) -> None:
    page = visitor(browser, java_script_enabled=False)
    page.goto(f"https://{SSO}/saml/start/oa")
    give_password(page, "lisi")
    expect(page.locator("main")).to_contain_text("You are being signed in.")
    page.click("text=Continue")
    expect(page.locator("h1")).to_have_text("Hello lisi")
    page.goto(f"https://{SSO}/account")
    expect(page.locator("#sessions li")).not_to_have_count(0)


def test_a_search_in_the_console_answers_while_one_types(browser: Browser, seeds: Seeds) -> None:
    page = visitor(browser)
    seeds.administer(page, "auditor", "/admin/users")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_label("User name, name or mail").press_sequentially("zhangs")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=zhangs"))
    page.locator("tbody a").click()
    expect(page.locator("main")).to_contain_text("all-employees")
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(1)
