"""OAuth over HTTP: tokens signed by RS256, code flows of people who are signed in, and what a worker then weighs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks.figure import figure, rate
from benchmarks.served import PASSWORD, ROOT, RUNS, SECONDS, SECRETS, Instance, basic, served, wrk
from tests.smoke_steps.instance import Browser

FLOWS = int(os.environ.get("BENCH_FLOWS", "10000"))
PEOPLE = 16
CALLBACK = "http://localhost:8001/callback"
VERIFIER = "v" * 64


def signatures() -> float:
    """RS256 signatures a second on two threads: what could be reached if nothing else were done."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    payload = b"x" * 500

    def sign(_: int) -> None:
        for _ in range(100):
            key.sign(payload, padding.PKCS1v15(), hashes.SHA256())

    with ThreadPoolExecutor(2) as pool:

        def act() -> int:
            list(pool.map(sign, range(10)))
            return 1_000

        return rate(act, runs=3)[0]


def token() -> Iterator[dict[str, Any]]:
    """client_credentials, each token recorded before its answer."""
    with served("sqlite", "benchmarks/bench.yaml") as instance:
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": basic("bench", SECRETS["EXPENSE_CLIENT_SECRET"]),
        }
        body = urlencode({"grant_type": "client_credentials"})
        runs = sorted(wrk(f"{instance.address}/oauth/token", body, headers) for _ in range(RUNS))
        yield _median("oauth.token.rs256", "tokens/s", runs, signatures())


def codeflow() -> Iterator[dict[str, Any]]:
    """Authorization to tokens with the session present: two requests and two signatures a flow."""
    with served() as instance:
        script = _script(instance)
        runs = sorted(wrk(instance.address, script=script, threads=PEOPLE) for _ in range(RUNS))
        yield _median("oauth.codeflow", "flows/s", runs, signatures() / 2)


def memory() -> Iterator[dict[str, Any]]:
    """Resident megabytes of a worker (the mean of the two): when it is ready, and after BENCH_FLOWS code flows."""
    with served() as instance:
        rest = mean(instance.workers()) / 1e6
        yield figure("memory.worker.rest", rest, "MB", 1)
        script, flows = _script(instance), 0.0
        while flows < FLOWS:
            flows += wrk(instance.address, script=script, threads=PEOPLE)[0] * SECONDS
        yield figure("memory.worker.after", mean(instance.workers()) / 1e6, "MB", round(flows), rest)


def _median(name: str, unit: str, runs: list[tuple[float, float, float]], baseline: float) -> dict[str, Any]:
    value, p99, _ = runs[len(runs) // 2]
    n = round(sum(run[0] for run in runs) * SECONDS)
    return figure(name, value, unit, n, baseline, p99_ms=p99, max_ms=max(run[2] for run in runs))


def _script(instance: Instance) -> str:
    """The code flow as wrk runs it, for PEOPLE who are signed in."""
    ldif = (ROOT / "examples/demo/company.ldif").read_text(encoding="utf-8")
    logins = [line.removeprefix("uid: ") for line in ldif.splitlines() if line.startswith("uid: ")][:PEOPLE]
    cookies = [f"{name}={value}" for login in logins for name, value in _session(instance, login).items()]
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": "expense",
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "openid profile roles",
        "state": "s",
        "nonce": "n",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    form = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    values = {
        "authorize": json.dumps(f"/oauth/authorize?{urlencode(query)}"),
        "form": json.dumps(urlencode(form)),
        "basic": json.dumps(basic("expense", SECRETS["EXPENSE_CLIENT_SECRET"])),
        "cookies": "{" + ", ".join(map(json.dumps, cookies)) + "}",
    }
    head = "".join(f"local {name} = {value}\n" for name, value in values.items())
    return head + Path(__file__).with_name("codeflow.lua").read_text(encoding="utf-8")


def _session(instance: Instance, login: str) -> dict[str, str]:
    """The session cookie of somebody who has just signed in."""
    browser = Browser(instance.address)
    page = browser.submit(browser.go("/"), login=login, password=PASSWORD)
    if page.status_code != 200:
        raise RuntimeError(f"{login} could not sign in: {page.text[:300]}")
    return {cookie.name: cookie.value or "" for cookie in browser.http.cookies.jar if cookie.name.endswith("sid")}


FIGURES = {"oauth.token.rs256": token, "oauth.codeflow": codeflow, "memory.worker": memory}
