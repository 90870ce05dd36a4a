"""A whole company on host names of its own over TLS: Tessera under granian, and two applications beside it.

Ports of localhost are one site to a browser and hide what cookies do between sites; four names do not.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.servers import certificates
from tests.servers.relying import RelyingParty
from tests.servers.slapd import free_port

ROOT = Path(__file__).resolve().parents[2]
SSO, CONSOLE = "sso.tessera.test", "console.tessera.test"
EXPENSE, OA = "expense.one.test", "oa.two.test"
PASSWORD = "Tessera-demo-2026"


class Site:
    """Runs while the context is open. The demo company as in production: TLS, no demo mode, second factors."""

    def __init__(self, folder: Path, system_administrators: Sequence[str] = ()) -> None:
        """With these system administrators beside those of the demo."""
        self._more = system_administrators
        self.folder = folder
        self.port = free_port()
        self.tls = certificates.make(folder, (SSO, CONSOLE, EXPENSE, OA))
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        self.http = httpx.Client(verify=context, base_url=f"https://127.0.0.1:{self.port}", timeout=20)
        self.secrets = {
            name: secrets.token_urlsafe(24)
            for name in ("EXPENSE_PDP_SECRET", "EXPENSE_CLIENT_SECRET", "OA_PDP_SECRET", "ERP_PDP_SECRET")
        }
        self.expense = RelyingParty(
            f"https://{EXPENSE}",
            f"https://{SSO}",
            self.tls,
            self.call,
            ("expense", self.secrets["EXPENSE_CLIENT_SECRET"]),
        )
        self.oa = RelyingParty(f"https://{OA}", f"https://{SSO}", self.tls, self.call)
        self.env = {
            **os.environ,
            **self.secrets,
            "TESSERA_VAR": str(folder / "var"),
            "PUBLIC_URL": f"https://{SSO}",
            "ADMIN_URL": f"https://{CONSOLE}",
            "ROOT_KEY_FILE": str(folder / "root.key"),
            "TESSERA_DEMO_PASSWORD": PASSWORD,
            "FAILED_LOGIN_MIN_MS": "0",
            "LOG_LEVEL": "WARNING",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def resolver_rules(self) -> str:
        """Chromium's way to our host names."""
        ports = {SSO: self.port, CONSOLE: self.port, EXPENSE: self.expense.port, OA: self.oa.port}
        return ", ".join(f"MAP {host}:443 127.0.0.1:{port}" for host, port in ports.items())

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to the server's public address, as an application's back end makes it."""
        headers = {**options.pop("headers", {}), "Host": SSO}
        return self.http.request(method, path, headers=headers, extensions={"sni_hostname": SSO}, **options)

    def __enter__(self) -> Self:
        key = self.folder / "root.key"
        key.write_bytes(secrets.token_bytes(32))
        key.chmod(0o600)
        company = self.folder / "company.yaml"
        company.write_text(yaml.safe_dump(self._company(), allow_unicode=True), encoding="utf-8")
        for words in (("migrate",), ("apply", str(company)), ("sync", "hq")):
            self.flask(*words)
        self._published_by_one()
        # One worker process: one more would only wait for its share of two cores.
        words = f"--interface wsgi --host 127.0.0.1 --port {self.port} --workers 1 --blocking-threads 4 --no-ws"
        tls = ["--ssl-certificate", str(self.tls.certificate), "--ssl-keyfile", str(self.tls.key)]
        self._start([sys.executable, "-m", "granian", *words.split(), *tls, "wsgi:application"])
        self._start([sys.executable, "-m", "flask", "--app", "wsgi", "identity", "worker"])
        self.expense.start()
        self.oa.start()
        for _ in range(1_200):
            try:
                if self.call("GET", "/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the server did not become ready: {(self.folder / 'log-0.txt').read_text()[-2_000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.expense.stop()
        self.oa.stop()
        self.http.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def flask(self, *words: str, status: int = 0) -> None:
        """A command, which must end with this status."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "identity", *words],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            check=False,
        )
        if done.returncode != status:
            raise RuntimeError(done.stderr.decode()[-3_000:])

    def _published_by_one(self) -> None:
        """As two administrators have agreed: the journeys of one do not wait for a second."""
        with closing(sqlite3.connect(self.folder / "var" / "tessera.db")) as connection, connection:
            connection.execute(
                "INSERT INTO second_person_rule (slot, required, row_version, reason) VALUES (1, 0, 2, 'agreed')"
            )

    def _start(self, command: list[str]) -> None:
        with (self.folder / f"log-{len(self._processes)}.txt").open("wb") as log:
            self._processes.append(subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log))

    def _company(self) -> dict[str, Any]:
        """The demo company with its applications at our addresses."""
        demo = ROOT / "examples" / "demo"
        company: dict[str, Any] = yaml.safe_load((demo / "company.yaml").read_text(encoding="utf-8"))
        company["directories"][0]["settings"]["path"] = str(shutil.copy(demo / "company.ldif", self.folder))
        company["directories"][0]["interval_s"] = 86_400
        system = company["administrators"][0]
        company["administrators"] += [{**system, "login": login, "name": login} for login in self._more]
        apps = {one["code"]: one for one in company["applications"]}
        expense, oa = apps["expense"], apps["oa"]
        expense["home_url"] = f"https://{EXPENSE}/"
        client = expense["oidc"][0]
        client["redirect_uris"] = [f"https://{EXPENSE}/callback"]
        client["post_logout_redirect_uris"] = [f"https://{EXPENSE}/"]
        client["backchannel_logout_uri"] = f"https://127.0.0.1:{self.expense.port}/backchannel-logout"
        oa["home_url"] = f"https://{OA}/"
        provider = oa["saml"][0]
        provider["entity_id"] = f"https://{OA}/metadata"
        provider["acs"] = [{"url": f"https://{OA}/acs", "index": 0, "default": True}]
        return company
