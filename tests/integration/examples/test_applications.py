"""The three example applications against a real server: one password, three protocols, every answer from the server."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.servers.demo import ROOT, Demo, Page, Person

ERP_API = "https://erp.xinghe.example/api"

# Seven processes start, on whatever machine this is.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


def test_a_link_to_a_document_survives_the_sign_in(demo: Demo) -> None:
    number = submit_claim(demo.person("zhangsan"), "33.00", "Books")
    page = claim(demo.person("lisi"), number)
    assert page.url == demo.url("expense", f"/claims/{number}")
    assert httpx.post(demo.url("expense", "/claims"), data={"amount": "1"}).status_code == 400


def submit_claim(person: Person, amount: str, text: str) -> str:
    """The id of the new claim."""
    page = person.open("expense").submit("amount", text=text, amount=amount)
    assert "Decision: permit" in page.text, page.text
    return page.row(text).split()[0]


def claim(person: Person, claim_id: str) -> Page:
    return person.open("expense", f"/claims/{claim_id}")


def test_a_claim_goes_its_way_through_four_persons_and_becomes_a_voucher_in_the_erp(demo: Demo) -> None:
    zhangsan, lisi, wangwu, zhaoliu = (demo.person(one) for one in ("zhangsan", "lisi", "wangwu", "zhaoliu"))
    number = submit_claim(zhangsan, "860.00", "Trip to Shanghai")
    approved = claim(lisi, number).submit("approve")
    assert "Decision: permit" in approved.text
    assert "Approved by李四" in approved.text
    reviewed = claim(wangwu, number).submit("review")
    voucher = re.search(r"The ERP made voucher (PZ-\S+)\.", reviewed.text)
    assert voucher, reviewed.text
    paid = claim(zhaoliu, number).submit("pay")
    assert "Paid by赵六" in paid.text
    assert number in wangwu.open("erp").row(voucher[1])
    assert lisi.open("erp").row(voucher[1]) == ""
    assert {one.passwords for one in (zhangsan, lisi, wangwu, zhaoliu)} == {1}


def test_nobody_approves_his_own_claim_and_the_page_says_why(demo: Demo) -> None:
    lisi = demo.person("lisi")
    number = submit_claim(lisi, "120.00", "Taxi to the airport")
    page = claim(lisi, number)
    assert "You have already acted on this document in another duty. (sod_object)" in page.text
    assert page.tree.xpath("//main//button/@disabled")
    pressed = page.submit("approve")
    assert "Decision: deny" in pressed.text
    assert "Approved by" not in pressed.text
    assert "您已在另一职责中处理过此单据。" in claim(demo.person("lisi", "zh-CN"), number).text


def test_a_claim_over_the_approvers_limit_is_denied_and_one_at_the_limit_is_not(demo: Demo) -> None:
    zhangsan, lisi = demo.person("zhangsan"), demo.person("lisi")
    over, at = submit_claim(zhangsan, "5000.01", "A dear trip"), submit_claim(zhangsan, "5000.00", "A trip")
    assert "The amount is over your limit. (limit)" in claim(lisi, over).text
    assert "Decision: deny" in claim(lisi, over).submit("approve").text
    assert "Decision: permit" in claim(lisi, at).submit("approve").text


def test_a_claim_is_shown_to_whom_the_decision_point_lets_see_it(demo: Demo) -> None:
    number = submit_claim(demo.person("zhangsan"), "75.00", "Lunch with a customer")
    stranger = demo.person("sunqi")
    assert stranger.open("expense").row(number) == ""
    assert claim(stranger, number).status == 403
    assert number in demo.person("lisi").open("expense").row(number)


def test_one_password_opens_all_three_applications(demo: Demo) -> None:
    lisi = demo.person("lisi")
    pages = {name: lisi.open(name) for name in ("expense", "oa", "erp")}
    assert lisi.passwords == 1
    for name, title in (("expense", "Expenses"), ("oa", "Office"), ("erp", "ERP")):
        assert pages[name].url == demo.url(name)
        assert title in pages[name].text
        assert "李四" in pages[name].text
    assert "审批人 · 申请人" in pages["oa"].text
    assert "Employee" in pages["erp"].text


def test_an_application_that_the_policy_does_not_allow_stays_closed(demo: Demo) -> None:
    page = demo.person("sunqi").open("erp")
    assert page.url == demo.url("erp")
    salesman = demo.person(_somebody_of("SA"))
    assert salesman.open("expense").status == 200
    closed = salesman.open("erp")
    assert closed.status == 403
    assert closed.host == urlsplit(demo.url("server")).netloc


def test_the_office_separates_applicant_and_approver(demo: Demo) -> None:
    zhangsan, lisi = demo.person("zhangsan"), demo.person("lisi")
    submitted = zhangsan.open("oa").submit("kind", text="Seal for the lease")
    assert "None of your roles allows this." in submitted.row("Seal for the lease")
    lisi.open("oa").submit("kind", text="Seal for my own contract")
    page = lisi.open("oa")
    assert "another duty" in page.row("Seal for my own contract")
    number = page.row("Seal for the lease").split()[0]
    done = page.submit(f"{number}/approve")
    assert "Decision: permit" in done.text
    assert "Approved" in done.row(number)


def test_a_purchase_order_is_approved_by_another_than_its_maker(demo: Demo) -> None:
    sunqi, zhouba = demo.person("sunqi"), demo.person("zhouba")
    created = sunqi.open("erp").submit("amount", text="Bearings, 200 sets", amount="36000.00")
    number = created.row("Bearings, 200 sets").split()[0]
    assert "None of your roles allows this." in created.row(number)
    own = zhouba.open("erp").submit("amount", text="Steel, 3 t", amount="15000.00").row("Steel, 3 t")
    assert "another duty" in own
    assert "Approved" in zhouba.open("erp").submit(f"{number}/approve").row(number)


def test_the_erp_api_takes_access_tokens_for_itself_and_asks_the_decision_point(demo: Demo) -> None:
    def call(token: str | None, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        method = "POST" if body else "GET"
        return httpx.request(method, demo.url("erp", "/api/vouchers"), headers=headers, json=body or None)

    assert (call(None).status_code, call(None).headers["WWW-Authenticate"]) == (401, "Bearer")
    assert 'error="invalid_token"' in call("not.a.token").headers["WWW-Authenticate"]
    accountant = tokens(demo, "wangwu", "openid erp.vouchers", resource=ERP_API)
    assert call(accountant["id_token"]).status_code == 401
    other_audience = tokens(demo, "wangwu", "openid erp.vouchers")
    assert call(other_audience["access_token"]).status_code == 401
    narrow = call(tokens(demo, "wangwu", "openid", resource=ERP_API)["access_token"])
    assert (narrow.status_code, narrow.json()["error"]) == (403, "insufficient_scope")

    voucher = {"claim": "BX-1", "company": "XH01", "text": "Trip", "amount": {"value": "10.00", "currency": "CNY"}}
    made = call(accountant["access_token"], **voucher)
    assert made.status_code == 201, made.text
    assert call(accountant["access_token"], **voucher).status_code == 409
    assert call(accountant["access_token"], claim="BX-2").status_code == 400
    assert [one["claim"] for one in call(accountant["access_token"]).json() if one["claim"] == "BX-1"] == ["BX-1"]

    employee = tokens(demo, "zhangsan", "openid erp.vouchers", resource=ERP_API)["access_token"]
    denied = call(employee, **voucher | {"claim": "BX-3"})
    assert (denied.status_code, denied.json()["reason"]) == (403, "no_permission")
    assert call(employee).json() == []


@pytest.mark.parametrize("start", ["expense", "oa", "erp"])
def test_signing_out_of_one_application_reaches_the_others(demo: Demo, start: str) -> None:
    lisi = demo.person("lisi")
    for name in ("expense", "oa", "erp"):
        assert lisi.open(name).status == 200
    page = lisi.open(start).submit("/logout")
    if page.host == urlsplit(demo.url("server")).netloc and page.tree.xpath('//main//form[@action="/logout"]'):
        page = page.submit("/logout")  # CAS and SAML ask, since a GET never ends a session
    for name in ("expense", "erp"):
        _until_signed_out(lisi, name)
    assert lisi.open("expense").status == 200
    assert lisi.passwords == 2


def test_a_logout_message_with_another_ticket_or_a_forged_logout_token_ends_nothing(demo: Demo) -> None:
    lisi = demo.person("lisi")
    for name in ("expense", "erp"):
        lisi.open(name)
    forged = f"<samlp:LogoutRequest><samlp:SessionIndex>ST-{'0' * 48}</samlp:SessionIndex></samlp:LogoutRequest>"
    httpx.post(demo.url("erp", "/login"), data={"logoutRequest": forged})
    id_token = tokens(demo, "lisi", "openid")["id_token"]
    for token in ("", "a.b.c", id_token):
        answer = httpx.post(demo.url("expense", "/backchannel-logout"), data={"logout_token": token})
        assert answer.status_code == 400
    for name in ("expense", "erp"):
        assert lisi.http.get(demo.url(name), follow_redirects=False).status_code == 200


def test_the_pages_speak_the_browsers_language(demo: Demo) -> None:
    for language, words in (
        ("en-US", ("Submit a claim", "New approval", "Purchase orders")),
        ("zh-CN", ("提交报销单", "发起申请", "采购订单")),
    ):
        person = demo.person("lisi", language)
        for name, word in zip(("expense", "oa", "erp"), words, strict=True):
            page = person.open(name)
            assert word in page.text
            assert page.tree.get("lang") == ("zh-Hans" if language == "zh-CN" else "en")


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        ("expense", "/claims", {"amount": "-1", "text": "x"}),
        ("expense", "/claims", {"amount": "1e9", "text": "x"}),
        ("expense", "/claims", {"amount": "10", "text": "x", "currency": "XXX"}),
        ("oa", "/approvals", {"kind": "bribe", "text": "x"}),
        ("erp", "/orders", {"amount": "x" * 5_000, "text": "x"}),
        ("erp", "/vendors/V-1001", {"account": "'; DROP TABLE"}),
    ],
)
def test_what_a_form_cannot_mean_is_a_bad_request(demo: Demo, name: str, path: str, fields: dict[str, str]) -> None:
    person = demo.person("sunqi")
    form = person.open(name).tree.xpath('//input[@name="csrf"]/@value')[0]
    assert person.http.post(demo.url(name, path), data=fields).status_code == 400  # no form token
    answer = person.http.post(demo.url(name, path), data={"csrf": form, "currency": "CNY", "company": "XH02", **fields})
    assert answer.status_code == 400


def test_a_foreign_saml_response_signs_nobody_in(demo: Demo) -> None:
    for message in ("", "bm90IHhtbA==", "PHNhbWxwOlJlc3BvbnNlLz4="):
        answer = httpx.post(demo.url("oa", "/saml/acs"), data={"SAMLResponse": message})
        assert answer.status_code == 403, message


def tokens(demo: Demo, login: str, scope: str, **extra: str) -> dict[str, Any]:
    """Tokens of a person for the expense application, by its own client credentials."""
    person = demo.person(login)
    person.open("server")
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    callback = demo.url("expense", "/callback")
    query = {"client_id": "expense", "response_type": "code", "redirect_uri": callback, "scope": scope, **extra}
    pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
    address = demo.url("server", f"/oauth/authorize?{urlencode(query | pkce)}")
    back = parse_qs(urlsplit(person.http.get(address, follow_redirects=False).headers["Location"]).query)
    answer = httpx.post(
        demo.url("server", "/oauth/token"),
        data={
            "grant_type": "authorization_code",
            "code": back["code"][0],
            "redirect_uri": callback,
            "code_verifier": verifier,
        },
        auth=("expense", demo.secret("EXPENSE_CLIENT_SECRET")),
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _until_signed_out(person: Person, name: str) -> None:
    """The worker tells the applications; within seconds."""
    for _ in range(150):
        answer = person.http.get(person.demo.url(name), follow_redirects=False)
        if answer.status_code == 302 and answer.headers["Location"].endswith("/login"):
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} still knows the session")


def _somebody_of(department: str) -> str:
    """The login of somebody in this department, from the directory's file."""
    text = (ROOT / "examples/demo/company.ldif").read_text(encoding="utf-8")
    entry = next(one for one in text.split("\n\n") if f"departmentNumber: {department}\n" in one)
    found = re.search(r"^uid: (\S+)$", entry, re.MULTILINE)
    assert found is not None
    return found[1]
