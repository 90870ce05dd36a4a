"""A private nginx with the sample of docs/policy.md before an upstream that says what it was told."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.servers.slapd import free_port

NGINX = "/usr/sbin/nginx"
MANUAL = Path(__file__).resolve().parents[2] / "docs" / "policy.md"
FRAME = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{upstream};
        return 200 "user=$http_x_auth_user name=$http_x_auth_name roles=$http_x_auth_roles path=$request_uri";
    }}
    {sample}
}}
"""


class Nginx:
    """Runs while the context is open, at `origin`; asks `provider` with these credentials."""

    def __init__(self, port: int, provider: str, credentials: tuple[str, str]) -> None:
        self.origin = f"http://localhost:{port}"
        self.folder = Path(tempfile.mkdtemp(prefix="tessera-nginx-"))
        upstream = free_port()
        sample = re.findall(r"```nginx\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)[0]
        basic = base64.b64encode(":".join(credentials).encode()).decode()
        for ours, real in {
            "listen 443 ssl;": f"listen 127.0.0.1:{port};",
            "server_name wiki.example;": "server_name localhost;",
            "https://sso.example": provider,
            "http://127.0.0.1:8080": f"http://127.0.0.1:{upstream}",
            "d2lraTpzZWNyZXQ=": basic,
        }.items():
            assert ours in sample, ours
            sample = sample.replace(ours, real)
        user = "user www-data;" if os.geteuid() == 0 else ""
        self._config = self.folder / "nginx.conf"
        self._config.write_text(FRAME.format(folder=self.folder, user=user, upstream=upstream, sample=sample))

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "www-data", "www-data")
        command = [NGINX, "-e", str(self.folder / "error.log"), "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                httpx.get(f"{self.origin}/_tessera/auth")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError("nginx did not start: " + (self.folder / "error.log").read_text())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)
