"""The demo: `make run`, or `python -m examples.run`.

Makes random secrets under `var/demo/` at its first start, loads the demo company, then serves Tessera, its worker and
the three example applications on this machine only, until Ctrl-C. What it does is what an operator types as well:
`flask --app wsgi identity migrate | apply | sync | worker`, and granian for `wsgi:application`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from identity.core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo"
NAMES = ("server", "expense", "oa", "erp")
PORTS = (8000, 8001, 8002, 8003)
PASSWORD = "Tessera-demo-2026"  # noqa: S105  what company.ldif holds for everybody; demo mode serves loopback only
SECRETS = ("EXPENSE_PDP_SECRET", "EXPENSE_CLIENT_SECRET", "OA_PDP_SECRET", "ERP_PDP_SECRET")
READY_S, STOP_S = 180, 10
ACCOUNTS = (
    ("zhangsan", "张三", "R&D engineer", "expense: submits claims · OA: applies · ERP: reads"),
    ("lisi", "李四", "head of R&D", "expense: approves R&D's claims up to 5,000 CNY, never his own · OA: approves"),
    ("wangwu", "王五", "accountant", "expense: reviews approved claims, posts their vouchers to the ERP"),
    ("zhaoliu", "赵六", "cashier", "expense: pays reviewed claims"),
    ("sunqi", "孙七", "buyer", "ERP: creates purchase orders · OA: applies for purchases"),
    ("zhouba", "周八", "head of purchasing", "ERP: approves purchase orders, never his own"),
    ("secadmin", "安全管理员", "security administrator", "console: users, groups, roles, role mappings"),
    ("sysadmin", "系统管理员", "system administrator", "console: directories and their sync"),
    ("auditor", "审计管理员", "audit administrator", "console: every login, token, decision and change"),
)


class Stopped(BaseException):
    """Somebody wants the demo to end (Ctrl-C, SIGTERM, or the terminal went away)."""


@dataclass
class Demo:
    """One demo in one folder, on four ports of 127.0.0.1."""

    var: Path
    ports: Sequence[int]
    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://localhost:{self.ports[NAMES.index(name)]}"

    def run(self) -> None:
        """Prepare what is not there yet, serve, and return when a process has ended by itself."""
        started = time.monotonic()
        say("Tessera demo, on this machine only: it listens on 127.0.0.1, and nothing outside can reach it.\n\n")
        self.check_ports()
        env = self.environment()
        company = self.company_file()
        tables = [*(ROOT / "migrations").rglob("*.py")]
        self.once("database", tables, lambda: flask(env, "migrate"))
        data = [company, DEMO / "company.ldif", *tables]
        self.once("demo company: applications, roles, rules", data, lambda: flask(env, "apply", str(company)))
        self.once("directory: people, departments, groups", data, lambda: flask(env, "sync", "hq"))
        with progress("server, worker and applications"):
            self.start(env)
            self.wait_until_ready()
        say(f"\nReady after {time.monotonic() - started:.1f} s.\n\n{self.guide()}")
        self.watch()

    def check_ports(self) -> None:
        """End the program with a sentence when a port is taken, on either loopback address: browsers try both."""
        for name, port in zip(NAMES, self.ports, strict=True):
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                if not can_listen(family, address, port):
                    raise SystemExit(
                        f"Port {port} ({name}) is taken by another program. Does the demo run already?\n"
                        'Stop that program, or choose other ports: make run PORTS="9000 9001 9002 9003"'
                    )

    def environment(self) -> dict[str, str]:
        """What the processes get. Settings of other installations in this shell (a DATABASE_URL!) are left out."""
        ours = {name.upper() for name in Settings.model_fields}
        env = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in ours}
        # A proxy for the outside world must not see calls between the applications.
        direct = ",".join(filter(None, (env.get("NO_PROXY") or env.get("no_proxy"), "localhost,127.0.0.1")))
        return {
            **env,
            **{name: secret_in(self.var / "secrets" / name) for name in SECRETS},
            "NO_PROXY": direct,
            "no_proxy": direct,
            "PYTHONUNBUFFERED": "1",
            "TESSERA_DEMO": "1",
            "TESSERA_DEMO_PASSWORD": PASSWORD,
            "TESSERA_VAR": str(self.var),
            "PUBLIC_URL": self.url("server"),
        }

    def company_file(self) -> Path:
        """The demo company's file; on other ports a copy that names them."""
        path = DEMO / "company.yaml"
        if tuple(self.ports) == PORTS:
            return path
        text = path.read_text(encoding="utf-8").replace("path: company.ldif", f"path: {DEMO / 'company.ldif'}")
        ports = dict(zip(map(str, PORTS), map(str, self.ports), strict=True))
        copy = self.var / "company.yaml"
        copy.write_text(re.sub(r"(?<=//localhost:)\d+", lambda found: ports[found[0]], text), encoding="utf-8")
        return copy

    def once(self, what: str, files: Iterable[Path], act: Callable[[], None]) -> None:
        """Do it unless it was done with these very files: what was changed in the console since stays as it is."""
        seen = hashlib.sha256()
        for path in sorted(files):
            seen.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        done = self.var / "done" / what.partition(":")[0].replace(" ", "-")
        database = self.var / "tessera.db"
        if database.exists() and done.exists() and done.read_text(encoding="ascii") == seen.hexdigest():
            return
        with progress(what):
            act()
        done.parent.mkdir(exist_ok=True)
        done.write_text(seen.hexdigest(), encoding="ascii")

    def start(self, env: Mapping[str, str]) -> None:
        """Start the processes, each in a session of its own: Ctrl-C reaches us alone, and we end them in order."""
        port = self.ports[0]
        words = f"--interface wsgi --host 127.0.0.1 --port {port} --workers 2 --blocking-threads 4 --no-ws"
        self.spawn("server", env, "-m", "granian", *words.split(), "wsgi:application")
        for job in ("worker", "seal"):
            self.spawn(job, env, "-m", "flask", "--app", "wsgi", "identity", job)
        for name in NAMES[1:]:
            # An application gets its own secrets and nothing of the server's.
            private = {f"{name.upper()}_{kind}": kind for kind in ("PDP_SECRET", "CLIENT_SECRET")}
            app_env = {key: value for key, value in env.items() if key not in SECRETS and not key.startswith("TESSERA")}
            app_env |= {kind: env[key] for key, kind in private.items() if key in env}
            app_env |= {"TESSERA_URL": self.url("server"), "BASE_URL": self.url(name), "ERP_URL": self.url("erp")}
            self.spawn(name, {**app_env, "DATA": str(self.var / "apps")}, "-m", f"examples.{name}")

    def spawn(self, name: str, env: Mapping[str, str], *words: str) -> None:
        folder = self.var / "log"
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, *words], cwd=ROOT, env=dict(env), stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append((name, process))

    def wait_until_ready(self) -> None:
        """Return when everything answers; end the program when something has ended or READY_S are over."""
        waiting = [f"{self.url('server')}/readyz", *(f"{self.url(name)}/healthz" for name in NAMES[1:])]
        deadline = time.monotonic() + READY_S
        while waiting := [url for url in waiting if not answers(url)]:
            if time.monotonic() > deadline:
                raise SystemExit(f"{waiting[0]} does not answer; see {self.var / 'log'}.")
            self.check_processes()
            time.sleep(0.05)

    def watch(self) -> None:
        """Wait for as long as every process runs."""
        while True:
            self.check_processes()
            time.sleep(0.5)

    def check_processes(self) -> None:
        """End the program with the log's last lines when a process has ended by itself."""
        for name, process in self.processes:
            if process.poll() is not None:
                log = (self.var / "log" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
                raise SystemExit(f"The {name} ended (status {process.returncode}):\n{log[-3_000:]}")

    def stop(self) -> None:
        """Ask every process to end, and after STOP_S end what is left of it, children included."""
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for _, process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def guide(self) -> str:
        """Where to go, and as whom."""
        server = self.url("server")
        places = (
            ("Portal", f"{server}/", "an employee's applications"),
            ("Console", f"{server}/admin", "users, groups, roles, mappings, sync; audit"),
            ("Expenses", f"{self.url('expense')}/", "费控报销, OpenID Connect"),
            ("Office", f"{self.url('oa')}/", "协同办公, SAML 2.0"),
            ("ERP", f"{self.url('erp')}/", "企业资源计划, CAS; API with access tokens"),
        )
        lines = [f"  {name:10}{url:30}{what}" for name, url, what in places]
        lines += ["", f"  Sign in with the password {PASSWORD} as"]
        # Chinese characters are two columns wide in a terminal.
        lines += [f"  {login:10}{who}{' ' * (12 - 2 * len(who))}{job:24}{can}" for login, who, job, can in ACCOUNTS]
        lines += ["", f"  Everything is kept in {self.var}: database, secrets, logs. Ctrl-C stops all of it.\n"]
        return "\n".join(lines)


def can_listen(family: socket.AddressFamily, address: str, port: int) -> bool:
    """Whether the port is free; True as well where the machine does not have the address at all."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            probe.bind((address, port))
    except OSError as error:
        return family == socket.AF_INET6 and error.errno != errno.EADDRINUSE
    return True


def secret_in(path: Path) -> str:
    """The secret in this file; made at the first start, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="ascii")


def flask(env: Mapping[str, str], *words: str) -> None:
    """Run `flask --app wsgi identity …`; ends the program with what it said when it fails."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "identity", *words]
    done = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"flask --app wsgi identity {' '.join(words)} failed:\n{done.stderr[-3_000:]}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  our own addresses
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    started = time.monotonic()
    say(f"  {what} ... ")
    try:
        yield
    except BaseException:
        say("\n")
        raise
    say(f"{time.monotonic() - started:.1f} s\n")


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """The first signal ends the demo; later ones do not disturb the stopping."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    raise Stopped


def main() -> None:
    parser = argparse.ArgumentParser(prog="examples.run", description="The demo, on this machine only.")
    parser.add_argument("--ports", type=int, nargs=4, default=PORTS, metavar=tuple(name.upper() for name in NAMES))
    parser.add_argument("--var", type=Path, default=ROOT / "var" / "demo", help="where everything is kept")
    chosen = parser.parse_args()
    chosen.var.mkdir(mode=0o700, parents=True, exist_ok=True)
    demo = Demo(chosen.var.resolve(), chosen.ports)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        demo.run()
    except Stopped:
        say("\nStopping ... ")
        demo.stop()
        say("stopped.\n")
    finally:
        demo.stop()


if __name__ == "__main__":
    main()
