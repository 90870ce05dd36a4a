"""Over HTTP: granian with 2 workers, wrk beside it at 32 connections, everything durable before its answer."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figure import figure
from tests.servers.postgres import Postgres
from tests.servers.slapd import free_port

ROOT = Path(__file__).resolve().parents[1]
SECRETS = {
    "EXPENSE_PDP_SECRET": "bench-expense",
    "EXPENSE_CLIENT_SECRET": "bench-client",
    "OA_PDP_SECRET": "bench-oa",
    "ERP_PDP_SECRET": "bench-erp",
    "TESSERA_DEMO_PASSWORD": "Tessera-demo-2026",
}
SECONDS = 10
RUNS = 3


@contextmanager
def served(kind: str) -> Iterator[tuple[str, str]]:
    """A private instance with the demo company: its address and the sub of an employee."""
    folder = Path(tempfile.mkdtemp(prefix="tessera-bench-"))
    port = free_port()
    env = {**os.environ, **SECRETS, "TESSERA_DEMO": "1", "TESSERA_VAR": str(folder), "LOG_LEVEL": "ERROR"}
    env["PUBLIC_URL"] = f"http://localhost:{port}"
    postgres = Postgres() if kind == "postgres" else None
    if postgres is not None:
        postgres.start()
        env["DATABASE_URL"] = postgres.database()
    flask = [sys.executable, "-m", "flask", "--app", "wsgi", "identity"]
    for words in (["migrate"], ["apply", "examples/demo/company.yaml"], ["sync", "hq"]):
        subprocess.run([*flask, *words], cwd=ROOT, env=env, check=True, capture_output=True)
    words = f"--interface wsgi --host 127.0.0.1 --port {port} --workers 2 --blocking-threads 16 --no-ws"
    command = [sys.executable, "-m", "granian", *words.split(), "wsgi:application"]
    server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        sub = subprocess.run(
            [sys.executable, "-c", _SUB], cwd=ROOT, env=env, check=True, capture_output=True, text=True
        ).stdout.strip()
        yield address, sub
    finally:
        server.terminate()
        server.wait(timeout=30)
        if postgres is not None:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


_SUB = (
    "from wsgi import app\nfrom sqlalchemy import select\nfrom identity.core.db import Database\n"
    "from identity.people.models import User\n"
    "with app.extensions['tessera'][Database].read() as c:\n"
    "    print(c.execute(select(User.sub).where(User.login_key == 'zhangsan')).scalar_one())\n"
)


def _wait(address: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server did not become ready")


def wrk(url: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[float, float, float]:
    """Requests a second, p99 and max in milliseconds, of one run."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as script:
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in (headers or {}).items()]
        if body:
            lines += ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
        lines.append(
            "function done(s, l, r) io.write(string.format('R %d %f %f %d\\n', s.requests, l:percentile(99) / 1000, "
            "l.max / 1000, s.errors.status + s.errors.read + s.errors.connect + s.errors.timeout)) end"
        )
        script.write("\n".join(lines))
    out = subprocess.run(
        ["wrk", "-t1", "-c32", f"-d{SECONDS}s", "-s", script.name, url], check=True, capture_output=True, text=True
    ).stdout
    Path(script.name).unlink()
    found = re.search(r"R (\d+) ([\d.]+) ([\d.]+) (\d+)", out)
    if found is None or int(found.group(4)):
        raise RuntimeError(out)
    return int(found.group(1)) / SECONDS, float(found.group(2)), float(found.group(3))


def measure(name: str, url: str, noop: str, body: str, headers: dict[str, str]) -> dict[str, Any]:
    """The median of the runs, its ratio to the same server's no-op route."""
    base = wrk(noop)[0]
    runs = sorted(wrk(url, body, headers) for _ in range(RUNS))
    value, p99, _ = runs[len(runs) // 2]
    worst = max(run[2] for run in runs)
    return figure(name, value, "requests/s", RUNS * SECONDS, base, p99_ms=round(p99, 1), max_ms=round(worst, 1))


def single(kind: str) -> Iterator[dict[str, Any]]:
    """One AuthZEN evaluation a request."""
    with served(kind) as (address, sub):
        body = json.dumps(
            {
                "subject": {"type": "user", "id": sub},
                "action": {"name": "read"},
                "resource": {"type": "claim", "id": "BX-1", "properties": {"company": "XH01"}},
            }
        )
        headers = {"Content-Type": "application/json", "Authorization": _basic("expense", "bench-expense")}
        url = f"{address}/access/v1/evaluation"
        yield measure(f"decide.single.{kind}", url, f"{address}/healthz", body, headers)


def sync() -> Iterator[dict[str, Any]]:
    """Seconds for the first sync of 300 people, the process's start included."""
    folder = Path(tempfile.mkdtemp(prefix="tessera-bench-"))
    env = {**os.environ, **SECRETS, "TESSERA_DEMO": "1", "TESSERA_VAR": str(folder)}
    flask = [sys.executable, "-m", "flask", "--app", "wsgi", "identity"]
    for words in (["migrate"], ["apply", "examples/demo/company.yaml"]):
        subprocess.run([*flask, *words], cwd=ROOT, env=env, check=True, capture_output=True)
    started = time.perf_counter()
    subprocess.run([*flask, "sync", "hq"], cwd=ROOT, env=env, check=True, capture_output=True)
    yield figure("sync.300", time.perf_counter() - started, "s", 1)
    shutil.rmtree(folder, ignore_errors=True)


def _basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


FIGURES = {
    "decide.single.sqlite": lambda: single("sqlite"),
    "decide.single.postgres": lambda: single("postgres"),
    "sync.300": sync,
}
