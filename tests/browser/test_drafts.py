"""A draft in a browser: its pages are sound in both languages and widths, and replay is shown when it is there."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_pages import check, listening
from tests.servers.browser import Seeds, visitor
from tests.servers.site import CONSOLE

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 390)])
def test_a_draft_is_written_looked_at_replayed_and_put_away(
    browser: Browser, seeds: Seeds, language: str, width: int
) -> None:
    page = visitor(browser, language, width)
    heard = listening(page)
    seeds.administer(page, "secadmin", "/admin/policy")
    begin = page.locator("form[action='/admin/policy/drafts']")
    begin.locator("input[name=title]").fill("Read only for everybody")
    begin.locator("input[name=reason]").fill("a journey")
    begin.locator("button").click()
    expect(page.locator(".crumbs")).to_be_visible()
    draft = page.url
    check(page)
    for part in ("permissions", "inheritance", "duties", "mappings"):
        page.goto(f"{draft}/rules?part={part}")
        check(page)
    page.goto(f"{draft}/mapping?source=group%7Call-employees&role=expense:只读")
    check(page)
    page.locator("form.stack button.primary").click()
    page.goto(draft)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("form:has(input[value=compare]) button").click()
    expect(page.locator("#groups")).to_be_visible()
    expect(page.locator(".figure b.ok")).not_to_have_text("0")
    check(page)
    page.locator("td.number a").first.click()
    expect(page.locator("#groups")).to_have_count(0)
    check(page)
    page.goto(draft)
    page.locator("form:has(input[value=replay]) button").click()
    # The worker's answer comes without loading the page again.
    expect(page.locator(".figures")).to_be_visible()
    check(page)
    page.goto(draft)
    check(page)
    page.locator("main details summary").last.click()
    page.locator("form[action$='/discard'] input[name=reason]").fill("only a journey")
    page.locator("form[action$='/discard'] button").click()
    expect(page).to_have_url(f"https://{CONSOLE}/admin/policy#drafts")
    assert heard == []
