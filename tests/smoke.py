"""The main job, end to end, as outside clients do it: `python -m tests.smoke`. One line a step."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit
from uuid import UUID

import httpx
import yaml
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, Slapd, free_port, loadable

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "Tessera-demo-2026"
ERP_API = "https://erp.xinghe.example/api"
EXPENSE_CALLBACK = "http://localhost:8001/callback"


class Browser:
    """A browser as far as sign-in needs one: cookies, redirects on our server, forms."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.Client(timeout=20, headers={"Accept-Language": "en"})

    def go(self, url: str) -> httpx.Response:
        """GET and follow redirects as long as they stay on our server."""
        return self._follow(self.http.get(urljoin(self.base, url)))

    def submit(self, page: httpx.Response, action: str | None = None, **fields: str) -> httpx.Response:
        """Send the page's form (the one with this action) with these fields filled in."""
        for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
            target = re.search(r'action="([^"]*)"', form)
            address = html.unescape(target.group(1)) if target else str(page.url)
            if (
                "/language" in address
                or (address == "/logout" and action != "/logout")
                or (action and address != action)
            ):
                continue
            values = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
            data = {name: html.unescape(value) for name, value in values.items()} | fields
            return self._follow(self.http.post(urljoin(str(page.url), address), data=data))
        raise AssertionError(f"no form in {page.url}: {page.text[:300]}")

    def sign_in(self, page: httpx.Response, login: str) -> httpx.Response:
        return self.submit(page, login=login, password=PASSWORD)

    def _follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["Location"])
            if not target.startswith(self.base):
                return answer
            answer = self.http.get(target)
        return answer


class Smoke:
    """The steps, in order; each raises when something is not as it must be."""

    def __init__(self, folder: Path, slapd: Slapd) -> None:
        self.folder = folder
        self.slapd = slapd
        self.port = free_port()
        self.base = f"http://localhost:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.secrets = {
            name: secrets.token_urlsafe(24)
            for name in ("EXPENSE_PDP_SECRET", "EXPENSE_CLIENT_SECRET", "OA_PDP_SECRET", "ERP_PDP_SECRET")
        }
        self.env = {
            **os.environ,
            **self.secrets,
            "TESSERA_DEMO": "1",
            "TESSERA_VAR": str(folder / "var"),
            "PUBLIC_URL": self.base,
            "TESSERA_DEMO_PASSWORD": PASSWORD,
            "LDAP_SECRET": ADMIN_PASSWORD,
            "AUDIT_HEAD_S": "1",
        }
        self.employee = Browser(self.base)
        self.state: dict[str, Any] = {}

    def prepare(self) -> None:
        """Load slapd, migrate, apply the company, start server and worker."""
        demo = ROOT / "examples" / "demo"
        self.slapd.add(loadable((demo / "company.ldif").read_text(encoding="utf-8"), PASSWORD))
        company = yaml.safe_load((demo / "company.yaml").read_text(encoding="utf-8"))
        directory = company["directories"][0]
        bases = {name: directory["settings"][name] for name in ("users_base", "groups_base", "departments_base")}
        directory |= {"kind": "openldap", "secret": "env:LDAP_SECRET", "interval_s": 1}
        directory["settings"] = {"urls": [self.slapd.url], "tls": "none", "bind_dn": ADMIN_DN, **bases}
        path = self.folder / "company.yaml"
        path.write_text(yaml.safe_dump(company, allow_unicode=True), encoding="utf-8")
        self._flask("migrate")
        self._flask("apply", str(path))

    def serve(self) -> None:
        for words in ("worker", "seal"):
            self._start([sys.executable, "-m", "flask", "--app", "wsgi", "identity", words])
        words = f"--interface wsgi --host 127.0.0.1 --port {self.port} --workers 2 --blocking-threads 16 --no-ws"
        self._start([sys.executable, "-m", "granian", *words.split(), "wsgi:application"])
        for _ in range(200):
            try:
                if httpx.get(f"{self.base}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not become ready")

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)

    def sync(self) -> None:
        out = self._flask("sync", "hq")
        assert "applied" in out, out
        assert "'user_add': 300" in out, out

    def login(self) -> None:
        page = self.employee.sign_in(self.employee.go("/"), "zhangsan")
        assert "/saml/start/oa" in page.text, page.text[:500]
        assert "http://localhost:8001/" in page.text

    def oidc(self) -> None:
        tokens = self._code_flow(self.employee, "openid profile roles")
        keys = KeySet.import_key_set(httpx.get(f"{self.base}/oauth/jwks").json())
        claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
        assert claims["aud"] == "expense"
        assert claims["roles"] == ["普通员工"], claims
        info = httpx.get(f"{self.base}/oauth/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert info.json()["sub"] == claims["sub"], info.text
        self.state |= {"sub": claims["sub"], "refresh": tokens["refresh_token"]}

    def saml(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = (
            '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
            f'ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{now}" Destination="{self.base}/saml/sso">'
            '<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">http://localhost:8002/saml/metadata'
            "</saml:Issuer></samlp:AuthnRequest>"
        )
        packed = zlib.compress(request.encode(), wbits=-15)
        query = urlencode({"SAMLRequest": base64.b64encode(packed).decode(), "RelayState": "ss:mem:1"})
        page = self.employee.go(f"/saml/sso?{query}")
        message = re.search(r'name="SAMLResponse" value="([^"]+)"', page.text)
        assert message, page.text[:500]
        xml = base64.b64decode(message.group(1)).decode()
        assert "status:Success" in xml
        assert "申请人" in xml
        assert 'value="ss:mem:1"' in page.text

    def cas(self) -> None:
        service = "http://localhost:8003/login"
        buyer = Browser(self.base)
        page = buyer.go(f"/cas/login?{urlencode({'service': service})}")
        answer = buyer.sign_in(page, "sunqi")
        ticket = parse_qs(urlsplit(answer.headers["Location"]).query)["ticket"][0]
        query = urlencode({"service": service, "ticket": ticket})
        first = httpx.get(f"{self.base}/cas/p3/serviceValidate?{query}").text
        assert "<cas:user>sunqi</cas:user>" in first, first
        assert "<cas:roles>Purchase</cas:roles>" in first, first
        assert "INVALID_TICKET" in httpx.get(f"{self.base}/cas/p3/serviceValidate?{query}").text

    def api_token(self) -> None:
        tokens = self._code_flow(self.employee, "openid erp.vouchers", resource=ERP_API)
        token = tokens["access_token"]
        keys = KeySet.import_key_set(httpx.get(f"{self.base}/oauth/jwks").json())
        decoded = jwt.decode(token, keys, algorithms=["RS256"])
        assert decoded.header["typ"] == "at+jwt"
        assert decoded.claims["aud"] == ERP_API
        self.state["api_token"] = token
        assert self._introspect(token)["active"] is True

    def decide_permit(self) -> None:
        answer = self._decide("zhangsan", "submit", "BX-1", company="XH01", org_unit="RD")
        assert answer["decision"] is True, answer

    def decide_deny(self) -> None:
        answer = self._decide("zhangsan", "pay", "BX-1", company="XH01")
        assert answer["decision"] is False, answer
        assert answer["context"]["reason"] == "no_permission", answer
        unknown = httpx.post(f"{self.base}/access/v1/evaluation", json={})
        assert unknown.status_code == 401

    def mapping_change(self) -> None:
        admin = Browser(self.base)
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

    def decide_after_change(self) -> None:
        answer: dict[str, Any] = {}
        for _ in range(20):
            answer = self._decide("zhangsan", "read", "BX-2", company="XH01", submitter="somebody")
            if answer["decision"]:
                return
            time.sleep(0.1)
        raise AssertionError(answer)

    def audit_found(self) -> None:
        auditor = Browser(self.base)
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

    def logout_everywhere(self) -> None:
        page = self.employee.go("/logout")
        self.employee.submit(page, "/logout", everywhere="1")
        again = self.employee.go("/")
        assert 'name="password"' in again.text
        assert self._refresh(self.state["refresh"]) == "invalid_grant"
        assert self._introspect(self.state["api_token"])["active"] is False

    def leaver(self) -> None:
        leaver = Browser(self.base)
        leaver.sign_in(leaver.go("/"), "lisi")
        tokens = self._code_flow(leaver, "openid")
        api = self._code_flow(leaver, "openid erp.vouchers", resource=ERP_API)["access_token"]
        claims = jwt.decode(
            tokens["id_token"], KeySet.import_key_set(httpx.get(f"{self.base}/oauth/jwks").json())
        ).claims
        assert self._introspect(api)["active"] is True
        self.slapd.lock("uid=lisi,ou=people,dc=xinghe,dc=example")
        for _ in range(100):
            if not self._introspect(api)["active"]:
                break
            time.sleep(0.1)
        time.sleep(1)  # what is promised of every other process
        assert self._introspect(api)["active"] is False
        assert 'name="password"' in leaver.go("/").text
        assert self._refresh(tokens["refresh_token"]) == "invalid_grant"
        self.state["sub"] = claims["sub"]
        denied = self._decide("lisi", "submit", "BX-3", company="XH01")
        assert denied["context"]["reason"] == "subject_disabled", denied

    def audit_verify(self) -> None:
        """The log holds; in a copy of the database one record is changed, and the verifier names it."""
        var = self.folder / "var"
        held = self._flask("verify-audit")
        assert "the audit holds" in held, held
        copy = self.folder / "copy.db"
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
            env={**self.env, "DATABASE_URL": f"sqlite:///{copy}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        wanted = f"FIRST BAD: seq {seq} record {UUID(record_id)} changed"
        assert wanted in done.stdout, (wanted, done.stdout)

    def _decide(self, _login: str, action: str, claim: str, **properties: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.base}/access/v1/evaluation",
            json={
                "subject": {"type": "user", "id": self.state["sub"]},
                "action": {"name": action},
                "resource": {"type": "claim", "id": claim, "properties": properties},
                "context": {"intent": "ask"},
            },
            auth=("expense", self.secrets["EXPENSE_PDP_SECRET"]),
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _code_flow(self, browser: Browser, scope: str, **extra: str) -> dict[str, Any]:
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        state = secrets.token_urlsafe(8)
        query = {
            "client_id": "expense",
            "response_type": "code",
            "redirect_uri": EXPENSE_CALLBACK,
            "scope": scope,
            "state": state,
            "nonce": secrets.token_urlsafe(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **extra,
        }
        answer = browser.go(f"/oauth/authorize?{urlencode(query)}")
        assert answer.is_redirect, answer.text[:500]
        back = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert back["state"] == [state], back
        assert back["iss"] == [self.base]
        form = {
            "grant_type": "authorization_code",
            "code": back["code"][0],
            "redirect_uri": EXPENSE_CALLBACK,
            "code_verifier": verifier,
        }
        tokens = httpx.post(f"{self.base}/oauth/token", data=form, auth=self._client())
        assert tokens.status_code == 200, tokens.text
        return dict(tokens.json())

    def _refresh(self, token: str) -> str:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return str(httpx.post(f"{self.base}/oauth/token", data=form, auth=self._client()).json().get("error"))

    def _introspect(self, token: str) -> dict[str, Any]:
        auth = ("erp", self.secrets["ERP_PDP_SECRET"])
        answer = httpx.post(f"{self.base}/oauth/introspect", data={"token": token}, auth=auth)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _client(self) -> tuple[str, str]:
        return "expense", self.secrets["EXPENSE_CLIENT_SECRET"]

    def _flask(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "identity", *words],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()[-3_000:]
        return done.stdout.decode()

    def _start(self, command: list[str]) -> None:
        log = (self.folder / f"log-{len(self.processes)}.txt").open("wb")
        self.processes.append(subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log))


STEPS = (
    *("sync", "login", "oidc", "saml", "cas", "api-token", "decide-permit", "decide-deny", "mapping-change"),
    *("decide-after-change", "audit-found", "logout-everywhere", "leaver", "audit-verify"),
)


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tessera-smoke-") as name, Slapd(Path(name) / "slapd") as slapd:
        smoke = Smoke(Path(name), slapd)
        try:
            smoke.prepare()
            for number, step in enumerate(STEPS):
                if number == 1:
                    smoke.serve()
                failed += not _run(step, getattr(smoke, step.replace("-", "_")))
        finally:
            smoke.stop()
            if failed:
                for log in sorted(Path(name).glob("log-*.txt")):
                    sys.stdout.write(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-3_000:]}\n")
    sys.stdout.write(f"{len(STEPS) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def _run(step: str, act: Callable[[], None]) -> bool:
    started = time.monotonic()
    try:
        act()
    except Exception as error:  # noqa: BLE001  one failing step must not hide the others
        sys.stdout.write(f"FAIL {step} {(time.monotonic() - started) * 1_000:.0f} ms: {error!r}\n"[:2_000])
        return False
    sys.stdout.write(f"ok {step} {(time.monotonic() - started) * 1_000:.0f} ms\n")
    sys.stdout.flush()
    return True


if __name__ == "__main__":
    sys.exit(main())
