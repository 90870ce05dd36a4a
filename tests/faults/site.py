"""A server as it runs in production (granian, two workers) that may be killed, with people and applications."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx

from tests.servers.slapd import free_port
from tests.world import COMPANY, PASSWORD, World

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 90.0
WORKERS = 2
SECURITY_ADMIN = "secadmin"
PEOPLE = ("zhang", "wang", "zhao")
_SPAWNING = re.compile(r"Spawning worker-(\d+) with PID: (\d+)")
_STARTED = re.compile(r"Started worker-(\d+)")
_ENDED = re.compile(r"(?:Unexpected exit from|Stopping|Killing) worker-(\d+)")
# Loaded before granian forks its workers, so that a new one serves at once; each still makes its own app.
_GRANIAN = "import identity.app; from granian.cli import entrypoint; entrypoint()"


def company(folder: Path) -> dict[str, Any]:
    """Beside the strict application `expense` a buffered one, `fast`, and an administrator who assigns roles."""
    (folder / "password").write_text(PASSWORD)
    made: dict[str, Any] = deepcopy(dict(COMPANY))
    made["applications"].append(
        {"code": "fast", "name": "Fast", "credential": "env:TEST_SECRET", "recording": "buffered"}
    )
    made["roles"].append({"application": "fast", "name": "reader", "title": "Reader"})
    made["permissions"].append({"role": "fast:reader", "type": "page", "actions": ["read"]})
    made["mappings"].append({"group": "staff", "role": "fast:reader"})
    made["administrators"] = [
        {"login": SECURITY_ADMIN, "name": "Sec", "roles": ["security-admin"], "password": "file:password"}
    ]
    return made


class Site:
    """An installation on a database, made by `prepare`; its server starts and ends as often as a test likes."""

    def __init__(self, database_url: str, folder: Path, var: Path | None = None) -> None:
        self.database_url = database_url
        self.folder = folder
        self.var = var or folder / "var"
        self.port = free_port()
        self.address = f"http://localhost:{self.port}"
        self.secret = ""
        self.subs: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"
        self.seen_var = self.var  # where we see it

    def prepare(self, database_url: str | None = None) -> None:
        """Migrate and fill the database; `database_url` where the way there is another one than the server's."""
        world = World(database_url or self.database_url, self.folder, company(self.folder), public_url=self.address)
        try:
            self.secret = world.secret
            for login in PEOPLE:
                self.subs[login] = world.sub(world.person(login, "staff"))
        finally:
            world.close()

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "TESSERA"))}
        return {
            **kept,
            "TESSERA_DEMO": "1",
            "TESSERA_VAR": str(self.var),
            "PUBLIC_URL": self.address,
            "DATABASE_URL": self.database_url,
            "FAILED_LOGIN_MIN_MS": "0",
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, before: Sequence[str] = (), log: Path | None = None, **env: str) -> None:
        """Serve; returns when it is ready. `before` are the words of a command that runs it."""
        words = f"--interface wsgi --host 127.0.0.1 --port {self.port} --workers {WORKERS} --blocking-threads 4 --no-ws"
        again = "--respawn-failed-workers --respawn-interval 0.1 --workers-kill-timeout 40"
        command = [*before, sys.executable, "-c", _GRANIAN, *words.split(), *again.split(), "wsgi:application"]
        with (log or self.log).open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**self.env, **env}, stdout=out, stderr=out, start_new_session=True
            )
        self.wait_ready(workers=WORKERS if log is None else 0)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the server to end, and wait for it; its status."""
        process = self.process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout=WAIT_S)
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing of the server's session stays, whatever became of its parent."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @contextmanager
    def serving(self, before: Sequence[str] = (), log: Path | None = None, **env: str) -> Iterator[None]:
        """Running while the context is open."""
        try:
            self.start(before, log, **env)
            yield
            self.stop()
        finally:
            self._end()

    def wait_ready(self, workers: int = WORKERS) -> None:
        """Return when it answers, and so many workers serve as far as its log tells."""

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log.read_text()[-3_000:] if workers else ''}")
            return (not workers or len(self.workers()) == workers) and self.status("/readyz") == 200

        wait_for(ready, "the server to be ready")

    def status(self, path: str) -> int | None:
        """The status of a GET, None when there is no answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20, headers=self.host).status_code
        except httpx.TransportError:
            return None

    @property
    def host(self) -> Mapping[str, str]:
        return {"Host": f"localhost:{self.port}"}

    def workers(self) -> dict[int, int]:
        """Worker number → process of those that serve, as granian's log tells."""
        spawned: dict[str, int] = {}
        serving: dict[int, int] = {}
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if found := _SPAWNING.search(line):
                spawned[found[1]] = int(found[2])
                serving.pop(int(found[1]), None)
            elif found := _STARTED.search(line):
                serving[int(found[1])] = spawned[found[1]]
            elif found := _ENDED.search(line):
                serving.pop(int(found[1]), None)
        return serving

    @property
    def _accounts(self) -> Path:
        return self.seen_var / "kept-accounts"  # a hard link stays on its file system

    def keep_accounts(self) -> None:
        """Hold on to the files in which promises are counted: they are removed when they are settled."""
        self._accounts.mkdir(exist_ok=True)
        for path in (self.seen_var / "recorder").glob("*.account"):
            try:
                (self._accounts / path.name).hardlink_to(path)
            except (FileExistsError, FileNotFoundError):
                continue

    def kept_accounts(self) -> list[Path]:
        return sorted(self._accounts.glob("*.account"))


def wait_for(true: Any, what: str, every_s: float = 0.02, within_s: float = WAIT_S) -> None:
    """Return as soon as it is true; raises when it does not become so, which is a fault and not slowness."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(every_s)
