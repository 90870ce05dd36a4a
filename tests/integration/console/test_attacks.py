"""Pages under attack: markup in every value, frames, headers, odd addresses, forged forms."""

from __future__ import annotations

from urllib.parse import urlencode

from sqlalchemy import select

from identity.login.models import LoginSession
from tests.integration.console.conftest import Console
from tests.world import API, CALLBACK, PASSWORD

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"

PAGES = (
    *("/", "/account", "/login", "/logout", "/nowhere", "/admin", "/admin/users", "/admin/groups", "/admin/roles"),
    *("/admin/mappings", "/admin/mappings/new", "/admin/applications", "/admin/applications/expense", "/admin/sync"),
    *("/oauth/authorize", "/saml/sso", "/cas/login", "/saml/metadata", "/oauth/jwks", "/healthz"),
    *("/.well-known/openid-configuration", "/oauth/userinfo", "/static/tessera.css"),
)


def test_hd_09_every_answer_carries_the_security_headers(console: Console) -> None:
    visitor = console.visitor("secadmin")
    for path in PAGES:
        answer = visitor.get(path)
        answer.close()
        headers = answer.headers
        policy = headers["Content-Security-Policy"]
        for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'self'"):
            assert part in policy, path
        assert "unsafe" not in policy, path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", path
        assert "Server" not in headers, path
        assert "Access-Control-Allow-Origin" not in headers or path.startswith(("/.well-known", "/oauth/jwks")), path


def test_oa_29_no_page_can_be_framed(console: Console) -> None:
    visitor = console.visitor("zhang", start="/")
    for path in ("/login", "/logout", "/oauth/authorize", "/admin", "/account"):
        answer = visitor.get(path)
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], path
        assert answer.headers["X-Frame-Options"] == "DENY", path


REQUEST = {
    "client_id": "expense",
    "response_type": "code",
    "redirect_uri": CALLBACK,
    "scope": "openid",
    "state": "s",
    "nonce": "n",
    "code_challenge": "a" * 43,
    "code_challenge_method": "S256",
}


def test_oa_21_nothing_of_a_request_becomes_markup(console: Console) -> None:
    names = ("state", "nonce", "login_hint", "ui_locales", "display", "scope", "client_id", "redirect_uri", "prompt")
    for field in names:
        browser = console.browser()
        answer = browser.follow(browser.go(f"/oauth/authorize?{urlencode({**REQUEST, field: MARKUP})}"))
        assert "<script>alert" not in answer.text, field
        assert "<img src=x" not in answer.text, field


def test_oa_21_names_of_applications_are_text_on_login_and_consent(console: Console) -> None:
    with console.unit() as unit:
        unit.db.connection().exec_driver_sql(
            "UPDATE application SET name = '<b>x</b>', name_en = '<b>x</b>', row_version = row_version + 1"
        )
        unit.facts.touch("app")
    query = {**REQUEST, "prompt": "consent"}
    browser = console.browser()
    page = browser.follow(browser.go(f"/oauth/authorize?{urlencode(query)}"))
    assert "&lt;b&gt;x" in page.text
    assert "<b>x" not in page.text
    consent = browser.sign_in("zhang", PASSWORD, f"/oauth/authorize?{urlencode(query)}")
    assert "asks for" in consent.text
    assert "<b>x" not in consent.text


def test_co_05_stored_values_are_text_everywhere(console: Console) -> None:
    with console.unit() as unit:
        connection = unit.db.connection()
        for table, columns in (
            ("person_profile", ("name", "mail", "phone")),
            ("groups", ("display_name",)),
            ("role", ("title", "description")),
            ("application", ("name", "name_en", "description")),
        ):
            for column in columns:
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = '{MARKUP.replace(chr(39), '')}'")
        unit.facts.touch("app")
        unit.facts.touch("policy")
    employee = console.visitor("zhang", start="/")
    employee.browser.client.get("/account", base_url="http://localhost:8000", headers={"User-Agent": MARKUP})
    console.decide(console.people["zhang"], MARKUP[:60], MARKUP[:200])
    console.find()
    for login, paths in (
        ("zhang", ("/", "/account")),
        (
            "secadmin",
            (
                *("/admin/users", f"/admin/users/{console.people['zhang']}", "/admin/groups", "/admin/roles"),
                *("/admin/roles/expense:employee", "/admin/mappings", "/admin/mappings/new"),
                *("/admin/applications", "/admin/applications/expense", f"/admin/users?{urlencode({'q': MARKUP})}"),
                f"/admin/mappings/new?{urlencode({'source': MARKUP, 'condition': MARKUP, 'limit': MARKUP})}",
            ),
        ),
        ("auditor", ("/admin/audit", f"/admin/audit?{urlencode({'q': MARKUP, 'object': MARKUP})}")),
    ):
        visitor = console.visitor(login, start="/" if login == "zhang" else "/admin")
        for path in paths:
            page = visitor.get(path)
            assert page.status_code == 200, path
            assert "<script>alert" not in page.text, path
            assert "<img src=x" not in page.text, path


ODD_ADDRESSES = (
    "/admin/users?q=%00",
    "/admin/users?after=%00&q=%ff",
    "/admin/users?q=%25_%5C",
    "/admin/users/not-a-uuid",
    "/admin/groups?q=%00&after=%00",
    "/admin/roles/%00",
    "/admin/roles/..%2f..%2fetc",
    "/admin/mappings?q=%00&application=%00",
    "/admin/mappings/%00/edit",
    "/admin/applications/%00",
    "/admin/sync?after=yesterday",
    "/admin/sync?after=0001-01-01T00:00:00%2B00:00&source=%00",
    "/admin/sync/runs/00000000-0000-0000-0000-000000000000",
    "/admin/users?state=" + "x" * 5_000,
)


def test_co_13_odd_addresses_of_lists_are_answered(console: Console) -> None:
    visitor = console.visitor("secadmin")
    for path in ODD_ADDRESSES:
        assert visitor.get(path).status_code in {200, 400, 404}, path


ODD_SEARCHES = (
    "q=%00",
    "object=%00",
    "person=%00",
    "since=9999-12-31",
    "until=9999-12-31",
    "since=0001-01-01",
    "until=0001-01-01",
    "since=tomorrow",
    "after=x",
    "after=2026-01-01T00:00:00~00000000-0000-0000-0000-000000000000~0",
    "after=2026-01-01T00:00:00%2B00:00~00000000-0000-0000-0000-000000000000~99999999999999999999",
    "kind=nothing&result=nothing&request_id=%00&reason=%00",
    "q=" + "字" * 600,
)


def test_co_13_odd_searches_of_the_audit_are_answered(console: Console) -> None:
    visitor = console.visitor("auditor")
    for query in ODD_SEARCHES:
        assert visitor.get(f"/admin/audit?{query}").status_code in {200, 400}, query


def test_co_11_no_page_shows_a_stored_secret(console: Console) -> None:
    visitor = console.visitor("secadmin")
    for path in ("/admin/applications", "/admin/applications/expense", "/admin/sync"):
        page = visitor.get(path).text
        assert console.secret not in page
        assert "secret_hash" not in page


def test_co_02_somebody_elses_session_is_not_mine_to_end(console: Console) -> None:
    mine, other = console.visitor("zhang", start="/"), console.visitor("li", start="/")
    with console.database.read() as connection:
        query = select(LoginSession.id).where(LoginSession.user_id == console.people["li"])
        session = connection.execute(query).scalar_one()
    answer = mine.post("/account/sessions/end", session=str(session))
    assert answer.status_code == 404
    assert other.get("/account").status_code == 200


def test_co_08_nothing_but_the_fields_of_a_form_counts(console: Console) -> None:
    console.person("fang", "staff")
    visitor = console.visitor("fang", start="/")
    fields = {"state": "active", "role": "tessera:security-admin", "user_id": console.user_id("li"), "sub": "x"}
    fine = {"old": PASSWORD, "new": "a much better sentence", "again": "a much better sentence"}
    assert visitor.post("/account/password", **fine, **fields).status_code == 303
    assert "Hello" in console.browser().sign_in("li", PASSWORD).text


def test_cs_02_a_form_token_of_another_session_is_refused(console: Console) -> None:
    one, two = console.visitor("secadmin"), console.visitor("auditor")
    token = two.get("/logout").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    answer = one.browser.client.post(
        "/admin/mappings/preview",
        data={"csrf_token": token, "source": "group|staff", "role": "expense:approver"},
        base_url="http://localhost:8000",
    )
    assert answer.status_code == 403
    assert "expired" in answer.text


def test_oa_21_the_api_identifier_is_text(console: Console) -> None:
    assert f"<code>{API}</code>" in console.visitor("auditor").get("/admin/applications/expense").text
