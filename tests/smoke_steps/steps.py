"""The steps; each raises when something is not as it must be."""

from __future__ import annotations

import base64
import re
import secrets
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.smoke_steps.instance import ERP_API, ROOT, Browser, Instance


def sync(instance: Instance) -> None:
    out = instance.flask("sync", "hq")
    assert "applied" in out, out
    assert "'user_add': 300" in out, out


def login(instance: Instance) -> None:
    page = instance.employee.sign_in(instance.employee.go("/"), "zhangsan")
    assert "/saml/start/oa" in page.text, page.text[:500]
    assert "http://localhost:8001/" in page.text


def oidc(instance: Instance) -> None:
    tokens = instance.code_flow(instance.employee, "openid profile roles")
    keys = KeySet.import_key_set(httpx.get(f"{instance.base}/oauth/jwks").json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["aud"] == "expense"
    assert claims["roles"] == ["普通员工"], claims
    info = httpx.get(f"{instance.base}/oauth/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert info.json()["sub"] == claims["sub"], info.text
    instance.subjects["zhangsan"] = claims["sub"]
    instance.state["refresh"] = tokens["refresh_token"]


def saml(instance: Instance) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    request = (
        '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        f'ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{now}" Destination="{instance.base}/saml/sso">'
        '<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">http://localhost:8002/saml/metadata'
        "</saml:Issuer></samlp:AuthnRequest>"
    )
    packed = zlib.compress(request.encode(), wbits=-15)
    query = urlencode({"SAMLRequest": base64.b64encode(packed).decode(), "RelayState": "ss:mem:1"})
    page = instance.employee.go(f"/saml/sso?{query}")
    message = re.search(r'name="SAMLResponse" value="([^"]+)"', page.text)
    assert message, page.text[:500]
    xml = base64.b64decode(message.group(1)).decode()
    assert "status:Success" in xml
    assert "申请人" in xml
    assert 'value="ss:mem:1"' in page.text


def cas(instance: Instance) -> None:
    service = "http://localhost:8003/login"
    buyer = Browser(instance.base)
    page = buyer.go(f"/cas/login?{urlencode({'service': service})}")
    answer = buyer.sign_in(page, "sunqi")
    ticket = parse_qs(urlsplit(answer.headers["Location"]).query)["ticket"][0]
    query = urlencode({"service": service, "ticket": ticket})
    first = httpx.get(f"{instance.base}/cas/p3/serviceValidate?{query}").text
    assert "<cas:user>sunqi</cas:user>" in first, first
    assert "<cas:roles>Purchase</cas:roles>" in first, first
    assert "INVALID_TICKET" in httpx.get(f"{instance.base}/cas/p3/serviceValidate?{query}").text


def api_token(instance: Instance) -> None:
    tokens = instance.code_flow(instance.employee, "openid erp.vouchers", resource=ERP_API)
    token = tokens["access_token"]
    keys = KeySet.import_key_set(httpx.get(f"{instance.base}/oauth/jwks").json())
    decoded = jwt.decode(token, keys, algorithms=["RS256"])
    assert decoded.header["typ"] == "at+jwt"
    assert decoded.claims["aud"] == ERP_API
    instance.state["api_token"] = token
    assert instance.introspect(token)["active"] is True


def decide_permit(instance: Instance) -> None:
    answer = instance.decide("zhangsan", "submit", "BX-1", company="XH01", org_unit="RD")
    assert answer["decision"] is True, answer


def decide_deny(instance: Instance) -> None:
    answer = instance.decide("zhangsan", "pay", "BX-1", company="XH01")
    assert answer["decision"] is False, answer
    assert answer["context"]["reason"] == "no_permission", answer
    unknown = httpx.post(f"{instance.base}/access/v1/evaluation", json={})
    assert unknown.status_code == 401


def sod_block(instance: Instance) -> None:
    """Nobody approves what he submitted himself, also when he may approve; another's he does."""
    approver = Browser(instance.base)
    approver.sign_in(approver.go("/"), "lisi")
    token = instance.code_flow(approver, "openid")["access_token"]
    info = httpx.get(f"{instance.base}/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})
    instance.subjects["lisi"] = info.json()["sub"]
    claim = {"company": "XH01", "org_unit": "RD", "amount": {"value": "800.00", "currency": "CNY"}}
    for login, number in (("lisi", "BX-OWN"), ("zhangsan", "BX-OTHER")):
        submitted = instance.decide(login, "submit", number, intent="perform", **claim)
        assert submitted["decision"] is True, submitted
    own = instance.decide("lisi", "approve", "BX-OWN", intent="perform", **claim)
    assert (own["decision"], own["context"]["reason"]) == (False, "sod_object"), own
    other = instance.decide("lisi", "approve", "BX-OTHER", intent="perform", **claim)
    assert other["decision"] is True, other


def limit_scope(instance: Instance) -> None:
    """One assignment must hold in scope and limit: over the limit in the right company, under it in the wrong one."""
    submitted = instance.decide("zhangsan", "submit", "BX-LIMIT", intent="perform", company="XH01", org_unit="RD")
    assert submitted["decision"] is True, submitted
    for company, value, reason in (
        ("XH01", "5000.00", "permitted"),
        ("XH01", "5000.01", "limit"),
        ("XH02", "4999.99", "scope"),
        ("XH02", "5000.01", "scope"),
    ):
        amount = {"value": value, "currency": "CNY"}
        answer = instance.decide("lisi", "approve", "BX-LIMIT", company=company, org_unit="RD", amount=amount)
        told = (answer["decision"], answer["context"]["reason"])
        assert told == (reason == "permitted", reason), (company, value, answer)


def mapping_change(instance: Instance) -> None:
    admin = Browser(instance.base)
    admin.sign_in(admin.go("/admin/mappings/new"), "secadmin")
    form = admin.go("/admin/mappings/new")
    preview = admin.submit(
        form,
        "/admin/mappings/preview",
        source="group|all-employees",
        role="expense:只读",
        company="",
        org_unit="",
    )
    assert "zhangsan" in preview.text, preview.text[:800]
    saved = admin.submit(preview, "/admin/mappings", reason="smoke: everybody may read", reference="CHG-1")
    assert saved.status_code == 200, saved.text[:500]


def decide_after_change(instance: Instance) -> None:
    answer: dict[str, Any] = {}
    for _ in range(20):
        answer = instance.decide("zhangsan", "read", "BX-2", company="XH01", submitter="somebody")
        if answer["decision"]:
            return
        time.sleep(0.1)
    raise AssertionError(answer)


def audit_found(instance: Instance) -> None:
    auditor = Browser(instance.base)
    auditor.sign_in(auditor.go("/admin/audit"), "auditor")
    wanted = (
        ("kind=login.session.started&person=zhangsan", "zhangsan"),
        ("kind=oauth.token.issued&application=expense", "expense"),
        ("kind=saml.assertion.issued", "oa"),
        ("kind=cas.ticket.validated", "erp"),
        ("kind=access.decision.made&object=BX-1&result=deny", "no_permission"),
        ("kind=roles.policy.published", "secadmin"),
    )
    for query, text in wanted:
        for _ in range(30):
            page = auditor.go(f"/admin/audit?{query}")
            rows = page.text.partition("<tbody>")[2]
            if text in rows:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{query}: {page.text[-1500:]}")


def logout_everywhere(instance: Instance) -> None:
    page = instance.employee.go("/logout")
    instance.employee.submit(page, "/logout", everywhere="1")
    again = instance.employee.go("/")
    assert 'name="password"' in again.text
    assert instance.refresh(instance.state["refresh"]) == "invalid_grant"
    assert instance.introspect(instance.state["api_token"])["active"] is False


def leaver(instance: Instance) -> None:
    leaver = Browser(instance.base)
    leaver.sign_in(leaver.go("/"), "lisi")
    tokens = instance.code_flow(leaver, "openid")
    api = instance.code_flow(leaver, "openid erp.vouchers", resource=ERP_API)["access_token"]
    claims = jwt.decode(
        tokens["id_token"], KeySet.import_key_set(httpx.get(f"{instance.base}/oauth/jwks").json())
    ).claims
    assert instance.introspect(api)["active"] is True
    instance.slapd.lock("uid=lisi,ou=people,dc=xinghe,dc=example")
    for _ in range(100):
        if not instance.introspect(api)["active"]:
            break
        time.sleep(0.1)
    time.sleep(1)  # what is promised of every other process
    assert instance.introspect(api)["active"] is False
    assert 'name="password"' in leaver.go("/").text
    assert instance.refresh(tokens["refresh_token"]) == "invalid_grant"
    instance.subjects["lisi"] = claims["sub"]
    denied = instance.decide("lisi", "submit", "BX-3", company="XH01")
    assert denied["context"]["reason"] == "subject_disabled", denied


def audit_verify(instance: Instance) -> None:
    """The log holds; in a copy of the database one record is changed, and the verifier names it."""
    var = instance.folder / "var"
    held = instance.flask("verify-audit")
    assert "the audit holds" in held, held
    copy = instance.folder / "copy.db"
    with closing(sqlite3.connect(var / "tessera.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("DROP TRIGGER audit_record_no_update")
        query = "SELECT l.seq, l.record_id FROM audit_leaf l JOIN audit_head h ON l.seq = h.size / 2 LIMIT 1"
        seq, record_id = target.execute(query).fetchone()
        body = 'replace(body, \'"result":"\', \'"result":"x\')'
        target.execute(f"UPDATE audit_record SET body = CAST({body} AS BLOB) WHERE id = ?", (record_id,))
        target.commit()
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "identity", "verify-audit"],
        cwd=ROOT,
        env={**instance.env, "DATABASE_URL": f"sqlite:///{copy}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    wanted = f"FIRST BAD: seq {seq} record {UUID(record_id)} changed"
    assert wanted in done.stdout, (wanted, done.stdout)
