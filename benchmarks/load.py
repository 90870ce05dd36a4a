"""Load on the decision point: an instance with 10,000 rules, its sealer and its finder running, and wrk beside it."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import yaml

from benchmarks.served import (
    ROOT,
    SECONDS,
    SECRETS,
    basic,
    headers_of,
    prepared,
    process,
    ready,
    run_wrk,
    serving,
    sub_of,
)
from benchmarks.served import flask as run_flask
from tests.servers.slapd import free_port

RULES = 10_000
REQUESTS = 500
CONNECTIONS = 32


@dataclass(frozen=True)
class Served:
    """Where the instance answers, whom it knows, and how its database is reached."""

    address: str
    sub: str
    env: Mapping[str, str]
    flask_address: str = ""


@dataclass(frozen=True, order=True)
class Run:
    """What wrk saw: requests a second, and milliseconds."""

    rate: float
    p50: float = field(compare=False)
    p99: float = field(compare=False)
    longest: float = field(compare=False)


@contextmanager
def deciding(kind: str, *, beside: Sequence[str] = ("worker", "seal"), flask: bool = False) -> Iterator[Served]:
    """An instance with the demo company and the rules; PostgreSQL flushes to disk. With `flask` the same handler is
    served by a bench-only Flask app too."""
    with prepared(kind, durable=True) as env, ExitStack() as stack:
        path = Path(env["TESSERA_VAR"]) / "rules.yaml"
        path.write_text(json.dumps(rules(), ensure_ascii=False), encoding="utf-8")
        run_flask(env, "apply", str(path))
        run_flask(env, "sync", "hq")
        stack.enter_context(serving(env))
        flask_address = ""
        if flask:
            flask_address = f"http://localhost:{free_port()}"
            # There each request holds a thread until it is durable.
            stack.enter_context(serving(env, "benchmarks.flask_app:application", flask_address, threads=16))
            ready(flask_address)
        for job in beside:
            stack.enter_context(process(env, "-m", "flask", "--app", "wsgi", "identity", job))
        yield Served(env["PUBLIC_URL"], sub_of(env), env, flask_address)


def rules() -> dict[str, Any]:
    """The demo company's rules and 10,000 more of the expense application: half of them are for every employee."""
    company = yaml.safe_load((ROOT / "examples/demo/company.yaml").read_text(encoding="utf-8"))
    more = [
        {
            "role": "expense:普通员工" if number % 2 else "expense:出纳",
            "type": f"t{number % 20}",
            "pattern": f"d{number % 50}/{number}",
            "actions": ["read"],
        }
        for number in range(RULES)
    ]
    return {
        "permissions": company["permissions"] + more,
        **{name: company[name] for name in ("inheritance", "mappings", "duties")},
    }


def _resource(number: int) -> dict[str, Any]:
    """The object of one of the rules."""
    number %= RULES
    resource = {"type": f"t{number % 20}", "id": f"d{number % 50}/{number}", "properties": {"company": "XH01"}}
    return {"resource": resource}


def singles(sub: str) -> list[str]:
    """The bodies of evaluations, spread over the rules."""
    common = {"subject": {"type": "user", "id": sub}, "action": {"name": "read"}}
    return [json.dumps({**common, **_resource(n * 7_919)}) for n in range(REQUESTS)]


def batches(sub: str, size: int = 100) -> list[str]:
    """The bodies of evaluations of `size` items: one person and action, many objects (AuthZEN §7.1.1)."""
    common = {"subject": {"type": "user", "id": sub}, "action": {"name": "read"}}
    return [
        json.dumps({**common, "evaluations": [_resource((n * size + k) * 7_919) for k in range(size)]})
        for n in range(20)
    ]


def hit(url: str, bodies: Sequence[str] = (), *, seconds: int = SECONDS, rate: int = 0) -> Run:
    """One run of wrk at 32 connections; at most `rate` requests a second where it is given.

    Raises `RuntimeError` when an answer was an error.
    """
    headers = {"Content-Type": "application/json", "Authorization": basic("expense", SECRETS["EXPENSE_PDP_SECRET"])}
    lines = headers_of(headers)
    if bodies:
        lines += [_BODIES % ", ".join(json.dumps(body, ensure_ascii=False) for body in bodies)]
    if rate:
        lines += [_PACED % rate]
    options = ("-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "20s")
    done, took_us, *times, _errors = run_wrk("\n".join([*lines, _DONE]), url, *options)
    p50, p99, longest = (round(one, 1) for one in times)
    return Run(done / took_us * 1e6, p50, p99, longest)


def warm(url: str, bodies: Sequence[str]) -> None:
    """Until all workers have loaded the rules: a worker does so with its first request."""
    for _ in range(10):
        try:
            hit(url, bodies, seconds=2)
        except RuntimeError:
            continue
        return


def commits(kind: str, seconds: float = 2.0) -> float:
    """Transactions of one small row a second on one connection, as durable as ours: what this disk does."""
    with prepared(kind, durable=True) as env:
        return _postgres_commits(env["DATABASE_URL"], seconds) if kind == "postgres" else _sqlite_commits(seconds)


def _postgres_commits(url: str, seconds: float) -> float:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE calibration (n int)")
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            connection.execute("INSERT INTO calibration VALUES (1)")
            done += 1
        return done / (time.perf_counter() - started)


def _sqlite_commits(seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as folder:
        connection = sqlite3.connect(Path(folder) / "calibration.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE calibration (n int)")
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            connection.execute("INSERT INTO calibration VALUES (1)")
            done += 1
        took = time.perf_counter() - started
        connection.close()
    return done / took


_BODIES = """
local bodies, requests, number = { %s }, {}, 0
wrk.method = "POST"
init = function(args)
   for n, body in ipairs(bodies) do requests[n] = wrk.format(nil, nil, nil, body) end
end
request = function()
   number = number %% #requests + 1
   return requests[number]
end
"""

# The n-th request is not sent before its time; one that is late is sent at once.
_PACED = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } pace_time; int clock_gettime(int id, pace_time *at);")
local at, start, sent = ffi.new("pace_time"), nil, 0
local function now() ffi.C.clock_gettime(1, at); return tonumber(at.s) * 1000 + tonumber(at.ns) / 1e6 end
delay = function()
   start = start or now()
   sent = sent + 1
   return math.max(0, math.floor(start + sent * 1000 / %d - now()))
end
"""

_DONE = (
    "function done(s, l, r) io.write(string.format('R %d %d %f %f %f %d\\n', s.requests, s.duration, "
    "l:percentile(50) / 1000, l:percentile(99) / 1000, l.max / 1000, "
    "s.errors.status + s.errors.read + s.errors.connect + s.errors.timeout)) end"
)

# Smaller for a quick look: BENCH_OFFERED_SECONDS=5
OFFERED_SECONDS = int(os.environ.get("BENCH_OFFERED_SECONDS", "60"))
