"""What the figures over HTTP share: a private instance (granian with 2 workers), wrk beside it, 32 connections."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers.postgres import Postgres
from tests.servers.slapd import free_port

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "Tessera-demo-2026"
SECRETS = {
    "EXPENSE_PDP_SECRET": "bench-expense",
    "EXPENSE_CLIENT_SECRET": "bench-client",
    "OA_PDP_SECRET": "bench-oa",
    "ERP_PDP_SECRET": "bench-erp",
    "TESSERA_DEMO_PASSWORD": PASSWORD,
}
# Smaller for a quick look whether a figure still runs: BENCH_SECONDS=1 BENCH_RUNS=1 BENCH_FLOWS=50 make bench
SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))


@dataclass(frozen=True)
class Instance:
    """A running server: its address, the sub of an employee, and the process that has the workers."""

    address: str
    sub: str
    pid: int

    def workers(self) -> list[int]:
        """The resident size of each worker, in bytes."""
        sizes = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
                command = (status.parent / "cmdline").read_bytes()
            except OSError:
                continue  # it ended while we looked
            if fields["PPid"] == str(self.pid) and b"granian" in command:
                sizes.append(int(fields["VmRSS"].split()[0]) * 1_024)
        return sizes


@contextmanager
def prepared(kind: str = "sqlite", *more: str, durable: bool = False) -> Iterator[dict[str, str]]:
    """The environment of a private instance with the demo company's configuration, then that of the `more` files.

    `durable`: PostgreSQL flushes each commit to disk, as SQLite does.
    """
    folder = Path(tempfile.mkdtemp(prefix="tessera-bench-"))
    env = {**os.environ, **SECRETS, "TESSERA_DEMO": "1", "TESSERA_VAR": str(folder), "LOG_LEVEL": "ERROR"}
    env["PUBLIC_URL"] = f"http://localhost:{free_port()}"
    postgres = Postgres(durable=durable) if kind == "postgres" else None
    try:
        if postgres is not None:
            postgres.start()
            env["DATABASE_URL"] = postgres.database()
        flask(env, "migrate")
        for path in ("examples/demo/company.yaml", *more):
            flask(env, "apply", path)
        yield env
    finally:
        if postgres is not None:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def served(kind: str = "sqlite", *more: str) -> Iterator[Instance]:
    """A private instance with the demo company, serving."""
    with prepared(kind, *more) as env:
        flask(env, "sync", "hq")
        with serving(env) as server:
            yield Instance(env["PUBLIC_URL"], sub_of(env), server.pid)


@contextmanager
def serving(
    env: dict[str, str], application: str = "wsgi:application", address: str = "", threads: int = 4
) -> Iterator[subprocess.Popen[bytes]]:
    """Granian with two workers of so many threads at this address (PUBLIC_URL), ready."""
    address = address or env["PUBLIC_URL"]
    port = address.rpartition(":")[2]
    words = f"--interface wsgi --host 127.0.0.1 --port {port} --workers 2 --blocking-threads {threads} --no-ws"
    with process(env, "-m", "granian", *words.split(), application) as server:
        ready(address)
        yield server


@contextmanager
def process(env: Mapping[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process of the instance, ended at the end."""
    command = [sys.executable, *words]
    started = subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=60)


def sub_of(env: dict[str, str]) -> str:
    """The `sub` of an employee."""
    command = [sys.executable, "-c", _SUB]
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()


def flask(env: dict[str, str], *words: str) -> None:
    """`flask --app wsgi identity …`; raises when it fails."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "identity", *words]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)


def wrk(
    url: str, body: str = "", headers: dict[str, str] | None = None, *, script: str = "", threads: int = 1
) -> tuple[float, float, float]:
    """Requests a second, p99 and max in milliseconds, of one run. With a `script` of its own, what that counts, on one
    connection to a thread. Raises `RuntimeError` when an answer was an error."""
    if not script:
        lines = headers_of(headers or {})
        if body:
            lines += ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
        script = "\n".join([*lines, _DONE])
    connections = threads if threads > 1 else 32
    done, p99, longest, _errors = run_wrk(script, url, f"-t{threads}", f"-c{connections}", f"-d{SECONDS}s")
    return done / SECONDS, round(p99, 1), round(longest, 1)


def run_wrk(script: str, url: str, *options: str) -> list[float]:
    """The numbers behind `R` that this script writes when it is done, the last of them how many answers were errors.

    Raises `RuntimeError` when one was.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        command = ["wrk", *options, "-s", file.name, url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^R ([\d. ]+)$", out, re.MULTILINE)
    numbers = [float(one) for one in found[1].split()] if found else []
    if not numbers or numbers[-1]:
        raise RuntimeError(out)
    return numbers


def headers_of(headers: Mapping[str, str]) -> list[str]:
    """The lines of a wrk script that set these headers."""
    return [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]


def basic(name: str, secret: str) -> str:
    """An HTTP Basic header."""
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


_DONE = (
    "function done(s, l, r) io.write(string.format('R %d %f %f %d\\n', s.requests, l:percentile(99) / 1000, "
    "l.max / 1000, s.errors.status + s.errors.read + s.errors.connect + s.errors.timeout)) end"
)

_SUB = (
    "from wsgi import app\nfrom sqlalchemy import select\nfrom identity.core.db import Database\n"
    "from identity.people.models import User\n"
    "with app.extensions['tessera'][Database].read() as c:\n"
    "    print(c.execute(select(User.sub).where(User.login_key == 'zhangsan')).scalar_one())\n"
)


def ready(address: str) -> None:
    """Return when it is; raises `RuntimeError` when it does not become so."""
    for _ in range(200):
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server did not become ready")
