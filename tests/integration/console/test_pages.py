"""What pages of the console and the portal say and do, on both databases."""

from __future__ import annotations

import re
from html import unescape

import pyotp

from identity.apps.inputs import ForwardInput
from identity.apps.service import get_application, put_forward_host
from identity.core import i18n
from identity.keys.keyring import Keyring
from identity.login import mfa
from identity.people.service import set_user_state
from tests.integration.console.conftest import Console, Visitor
from tests.world import PASSWORD

NEW = "a much better sentence"


def test_users_are_found_by_name_state_and_page(console: Console) -> None:
    for number in range(60):
        console.person(f"p{number:02}", "staff")
    admin = console.visitor("auditor")
    page = admin.get("/admin/users?q=p").text
    assert page.count("<tr>") == 51
    onward = re.search(r'rel="next" href="([^"]+)"', page)
    assert onward
    rest = admin.get("/admin/users" + unescape(onward.group(1))).text
    assert "p59" in rest
    assert "p00" not in rest
    leaver = console.person("q01", "staff")
    with console.unit() as unit:
        set_user_state(unit, leaver, "disabled", cause="test")
    assert "q01" in admin.get("/admin/users?state=disabled&q=q0").text
    assert "Nobody was found" in admin.get("/admin/users?state=active&q=q0").text
    assert "Nobody was found" in admin.get("/admin/users?q=%25").text


def test_a_user_shows_each_role_with_how_it_came_about(console: Console) -> None:
    page = console.visitor("secadmin").get(f"/admin/users/{console.people['li']}").text
    assert "Roles and how each came about" in page
    assert "≤ 5000.00 CNY" in page
    assert ">leads</a>" in page
    assert page.count(">allowed<") == 1


def test_co_03_a_system_administrator_sees_people_without_their_roles(console: Console) -> None:
    page = console.visitor("sysadmin").get(f"/admin/users/{console.people['li']}").text
    assert "Li" in page
    assert "Roles and how each came about" not in page
    assert "approver" not in page
    assert "Disable this user" not in page


def test_a_disabled_user_is_out_at_once_and_the_reason_is_recorded(console: Console) -> None:
    leaver = console.person("wei", "staff")
    employee, admin = console.visitor("wei", start="/"), console.visitor("secadmin")
    address = f"/admin/users/{leaver}"
    assert "Please give a reason." in admin.post(f"{address}/state", state="disabled", reason=" ").text
    assert admin.post(f"{address}/state", state="disabled", reason="left", reference="HR-7").status_code == 303
    assert ">disabled<" in admin.get(address).text
    assert employee.get("/").status_code == 303
    console.find()
    auditor = console.visitor("auditor")
    found = auditor.get("/admin/audit?kind=people.user.disabled").text
    assert "secadmin disabled the user wei" in found
    record = re.search(r"/admin/audit/([0-9a-f-]{36})", found)
    assert record
    detail = auditor.get(f"/admin/audit/{record.group(1)}").text
    for text in ("left", "HR-7", "secadmin", "<code>state</code>"):
        assert text in detail


def test_a_lost_second_factor_is_taken_away_by_an_administrator(console: Console) -> None:
    lost = console.person("fang", "staff")
    employee, admin = console.visitor("fang", start="/"), console.visitor("secadmin")
    address = f"/admin/users/{lost}/factor/remove"
    assert admin.post(address, reason="phone lost").status_code == 404
    assert admin.post(f"/admin/users/{console.user_id('secadmin')}/factor/remove", reason="x").status_code == 403
    keyring = console.things[Keyring]
    with console.unit() as unit:
        seed = mfa.begin_enrolment(unit, keyring, lost)
        assert mfa.confirm_enrolment(unit, keyring, lost, pyotp.TOTP(seed).at(unit.now))
    assert "Remove it" in admin.get(f"/admin/users/{lost}").text
    assert "Please give a reason." in admin.post(address, reason="").text
    assert admin.post(address, reason="phone lost", reference="IT-9").status_code == 303
    assert "Remove it" not in admin.get(f"/admin/users/{lost}").text
    assert employee.get("/").status_code == 303
    (record,) = [one for one in console.records() if one["kind"] == "login.factor.removed"]
    assert (record["user"], record["why"], record["reference"]) == (str(lost), "phone lost", "IT-9")


def test_pe_07_the_last_administrator_of_a_role_is_not_disabled(console: Console) -> None:
    admin = console.visitor("secadmin")
    for login in ("auditor", "sysadmin", "secadmin"):
        answer = admin.post(f"/admin/users/{console.user_id(login)}/state", state="disabled", reason="x")
        assert answer.status_code == 409
        assert "last administrator" in answer.text
    assert console.visitor("auditor").get("/admin/audit").status_code == 200


def test_a_mapping_is_previewed_published_edited_and_removed(console: Console) -> None:
    admin = console.visitor("secadmin")
    form = {"source": "group|staff", "role": "expense:approver", "limit": "100.00", "company": "", "org_unit": ""}
    preview = admin.post("/admin/mappings/preview", **form)
    assert preview.status_code == 200
    # Li has the role already in wider bounds and gets these beside them; Zhang gains it.
    assert re.search(r"Zhang.*?gains", preview.text, re.DOTALL)
    assert re.search(r"Li.*?other bounds", preview.text, re.DOTALL)
    assert "No mapping" not in preview.text
    based_on = re.search(r'name="based_on" value="(\d+)"', preview.text)
    assert based_on
    saved = admin.post("/admin/mappings", **form, reason="everybody", based_on=based_on.group(1))
    assert saved.status_code == 303
    small = {"amount": {"value": "99.00", "currency": "CNY"}}
    assert console.decide(console.people["li"], "submit", "c9", "perform")["decision"] is True
    assert console.decide(console.people["zhang"], "approve", "c9", **small)["decision"] is True
    row = _row(admin, "staff", "approver")
    filled = admin.get(f"/admin/mappings/{row}/edit").text
    assert 'value="100.00"' in filled
    changed = {**form, "limit": "50.00", "replace": row}
    assert "other bounds" in admin.post("/admin/mappings/preview", **changed).text
    assert admin.post("/admin/mappings", **changed, reason="less").status_code == 303
    assert console.decide(console.people["zhang"], "approve", "c9", **small)["context"]["reason"] == "limit"
    row = _row(admin, "staff", "approver")
    gone = admin.post("/admin/mappings/preview", remove=row).text
    assert re.search(r"Zhang.*?loses", gone, re.DOTALL)
    assert admin.post("/admin/mappings", remove=row, reason="back").status_code == 303
    assert console.decide(console.people["zhang"], "approve", "c9", **small)["decision"] is False
    assert admin.get(f"/admin/mappings/{row}/edit").status_code == 404


def _row(admin: Visitor, source: str, role: str) -> str:
    page = admin.get(f"/admin/mappings?q={source}").text
    rows = [row for row in page.split("<tr>") if source in row and role in row]
    found = re.search(r"/admin/mappings/([0-9a-f]+)/edit", rows[0])
    assert found
    return found.group(1)


def test_a_change_of_older_rules_is_refused_and_changes_nothing(console: Console) -> None:
    admin = console.visitor("secadmin")
    version = re.search(r"Policy version (\d+)", admin.get("/admin/mappings").text)
    assert version
    form = {"source": "group|leads", "role": "expense:employee", "based_on": version.group(1), "reason": "first"}
    assert admin.post("/admin/mappings", **form).status_code == 303
    late = admin.post("/admin/mappings", **{**form, "source": "group|staff", "role": "expense:approver"})
    assert late.status_code == 409
    assert "The rules have changed since this page was loaded." in late.text
    assert "Nothing was changed." in late.text
    row = _row(admin, "leads", "employee")
    assert admin.post("/admin/mappings", remove=row, reason="as found").status_code == 303


WRONG: tuple[dict[str, str], ...] = (
    {"source": "", "role": "expense:employee"},
    {"source": "planet|mars", "role": "expense:employee"},
    {"source": "group|staff", "role": "nothing"},
    {"source": "group|staff", "role": "expense:nothing"},
    {"source": "group|staff", "role": "tessera:security-admin"},
    {"source": "group|staff", "role": "expense:employee", "limit": "1.23456"},
    {"source": "group|staff", "role": "expense:employee", "limit": "5", "currency": "yuan"},
    {"source": "group|staff", "role": "expense:employee", "condition": "subject."},
    {"source": "group|staff", "role": "expense:employee", "valid_until": "31.12.2026"},
    {"source": "group|staff", "role": "expense:employee", "valid_until": "9999-12-31"},
    {"source": "group|staff", "role": "expense:approver", "replace": "0" * 16},
    {"source": "group|staff", "role": "expense:approver", "based_on": "x"},
    {"source": "group|staff", "role": "expense:approver", "based_on": "99999999999999999999999"},
)


def test_pe_02_a_wrong_mapping_is_said_and_never_stored(console: Console) -> None:
    admin = console.visitor("secadmin")
    before = admin.get("/admin/mappings").text
    for form in WRONG:
        preview = admin.post("/admin/mappings/preview", **form)
        assert preview.status_code in {400, 404}, form
        assert admin.post("/admin/mappings", **form, reason="x").status_code in {400, 404, 409}, form
    assert _versions(admin.get("/admin/mappings").text) == _versions(before)


def _versions(page: str) -> list[str]:
    return re.findall(r"Policy version \d+", page)


def test_a_new_secret_is_shown_once_and_works(console: Console) -> None:
    admin = console.visitor("secadmin")
    answer = admin.post("/admin/applications/expense/secret", client_id="expense", reason="rotation")
    secret = re.search(r"<code>(cs_[\w-]+|cs-[\w-]+|cs[\w.~-]+)</code>", answer.text)
    assert answer.status_code == 200
    assert secret, answer.text[:3_000]
    assert secret.group(1) not in admin.get("/admin/applications/expense").text
    form = {"grant_type": "client_credentials", "scope": "vouchers", "resource": "https://api.example/"}
    assert console.token(**form).status_code == 401
    before, console.secret = console.secret, secret.group(1)
    try:
        assert console.token(**form).status_code == 200
    finally:
        console.secret = before


def test_an_application_page_has_what_an_integrator_needs(console: Console) -> None:
    page = console.visitor("auditor").get("/admin/applications/expense").text
    for text in (
        "http://localhost:8000/.well-known/openid-configuration",
        "https://app.example/cb",
        "http://localhost:8000/cas/p3/serviceValidate",
        "https://api.example/",
        "http://localhost:8000/access/v1/evaluation",
    ):
        assert f"<code>{text}</code>" in page, text
    assert "Make a new secret" not in page


def test_the_auditor_pages_by_key_and_filters(console: Console) -> None:
    for number in range(60):
        console.decide(console.people["zhang"], "read", f"claim-{number:02}")
    console.find()
    auditor = console.visitor("auditor")
    page = auditor.get("/admin/audit?kind=access.decision.made&application=expense").text
    assert page.count("<tr>") == 51
    assert "Complete to" in page
    onward = re.search(r'rel="next" href="([^"]+)"', page)
    assert onward
    rest = auditor.get("/admin/audit" + unescape(onward.group(1))).text
    assert 9 <= rest.count("<tr>") - 1 < 50
    denied = console.decide(console.people["zhang"], "pay", "claim-x")
    assert denied["context"]["reason"] == "no_permission"
    console.find()
    for query in ("object=claim-x", "reason=no_permission", "result=deny", "q=claim-x", "person=zhang&result=deny"):
        found = auditor.get(f"/admin/audit?{query}").text
        assert "No role of this person permits this." in found, query
        assert "no_permission" in found
    assert "Nothing was found" in auditor.get("/admin/audit?person=nobody-here").text
    assert "Nothing was found" in auditor.get("/admin/audit?until=2020-01-01").text


def test_a_search_and_a_reading_of_the_record_are_recorded(console: Console) -> None:
    auditor = console.visitor("auditor")
    auditor.get("/admin/audit?person=li")
    console.find()
    found = auditor.get("/admin/audit?kind=audit.record.searched").text
    assert "auditor searched the audit" in found


def test_a_password_is_changed_with_the_old_one_and_ends_other_sessions(console: Console) -> None:
    console.person("chen", "staff")
    here, there = console.visitor("chen", start="/"), console.visitor("chen", start="/")
    same = {"old": PASSWORD, "new": NEW, "again": NEW}
    assert "are not the same" in here.post("/account/password", **{**same, "again": "other sentence"}).text
    assert "old password is not right" in here.post("/account/password", **{**same, "old": "wrong"}).text
    assert "12 to 1024" in here.post("/account/password", **{**same, "new": "short", "again": "short"}).text
    assert there.get("/account").status_code == 200
    assert here.post("/account/password", **same).status_code == 303
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 303
    assert "is not right" in console.browser().sign_in("chen", PASSWORD).text
    assert "Hello" in console.browser().sign_in("chen", NEW).text


def test_bf_04_guessing_the_old_password_is_counted_like_a_sign_in(console: Console) -> None:
    console.person("guess", "staff")
    here = console.visitor("guess", start="/")
    for _ in range(6):
        here.post("/account/password", old="wrong", new=NEW, again=NEW)
    console.find()
    found = console.visitor("auditor").get("/admin/audit?person=guess&kind=login.session.refused").text
    assert found.count("A sign-in as guess was refused") == 6
    # After five failures the name waits, as it does on the login page.
    assert found.count('<code class="code">wrong_password</code>') >= 5


def test_pages_are_chinese_for_a_chinese_browser(console: Console) -> None:
    admin = console.visitor("secadmin")
    headers = {"Accept-Language": "zh-CN,zh;q=0.9"}
    for path, text in (
        ("/admin/users", "用户名、姓名或邮箱"),
        ("/admin/mappings", "角色映射"),
        (f"/admin/users/{console.people['li']}", "角色及其由来"),
        ("/admin/nowhere", "没有此页面。"),
        ("/admin/audit", "您没有执行此操作的权限。"),
    ):
        page = admin.browser.client.get(path, base_url="http://localhost:8000", headers=headers)
        assert text in page.text, path
        assert '<html lang="zh-Hans">' in page.text
        # The language was this request's, not the thread's.
        assert i18n.language() == "en"


def test_a_proxied_host_stands_on_its_applications_page(console: Console) -> None:
    wanted = {"origin": "https://wiki.example", "routes": [{"pattern": "admin/**", "action": "manage"}]}
    with console.unit() as unit:
        put_forward_host(unit, get_application(unit, "expense"), ForwardInput.model_validate(wanted))
    page = console.visitor("secadmin").get("/admin/applications/expense").text
    assert "https://wiki.example" in page
    assert "/forward/auth" in page
    assert re.search(r"<code>/admin/\*\*</code></dt><dd>DELETE, .* → page · manage", page)
    assert "Forward auth" in console.visitor("secadmin").get("/admin/applications").text
