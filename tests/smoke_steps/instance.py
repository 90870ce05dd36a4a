"""A private Tessera over a real slapd with the demo company, and what outside clients do with it."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import yaml

from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, Slapd, free_port, loadable

ROOT = Path(__file__).resolve().parents[2]
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


class Instance:
    """The server with its worker and sealer; `state` is what earlier steps found out, `subjects` are subs by login."""

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
        self.subjects: dict[str, str] = {}

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
        self.flask("migrate")
        self.flask("apply", str(path))

    def serve(self) -> None:
        for words in ("worker", "seal"):
            self._start([sys.executable, "-m", "flask", "--app", "wsgi", "identity", words])
        words = f"--interface wsgi --host 127.0.0.1 --port {self.port} --workers 2 --blocking-threads 4 --no-ws"
        self._start([sys.executable, "-m", "granian", *words.split(), "wsgi:application"])
        for _ in range(200):
            try:
                if httpx.get(f"{self.base}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server did not become ready: {self.logs()}")

    def logs(self) -> str:
        """The end of what the processes wrote."""
        found = sorted(self.folder.glob("log-*.txt"))
        return "\n".join(f"--- {one.name}\n{one.read_text(encoding='utf-8')[-3_000:]}" for one in found)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)

    def decide(self, login: str, action: str, claim: str, intent: str = "ask", **properties: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.base}/access/v1/evaluation",
            json={
                "subject": {"type": "user", "id": self.subjects[login]},
                "action": {"name": action},
                "resource": {"type": "claim", "id": claim, "properties": properties},
                "context": {"intent": intent},
            },
            auth=("expense", self.secrets["EXPENSE_PDP_SECRET"]),
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def code_flow(self, browser: Browser, scope: str, **extra: str) -> dict[str, Any]:
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

    def refresh(self, token: str) -> str:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return str(httpx.post(f"{self.base}/oauth/token", data=form, auth=self._client()).json().get("error"))

    def introspect(self, token: str) -> dict[str, Any]:
        auth = ("erp", self.secrets["ERP_PDP_SECRET"])
        answer = httpx.post(f"{self.base}/oauth/introspect", data={"token": token}, auth=auth)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _client(self) -> tuple[str, str]:
        return "expense", self.secrets["EXPENSE_CLIENT_SECRET"]

    def flask(self, *words: str) -> str:
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
