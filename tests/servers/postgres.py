"""A private PostgreSQL cluster, one for each test process; a fresh database for each use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.servers.slapd import free_port

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/lib/postgresql"))


class Postgres:
    """Started by `start`, stopped and removed by `stop`. As root it runs as the user `postgres`."""

    def __init__(self, *, durable: bool = False) -> None:
        """`durable`: each commit is flushed to disk, as in production."""
        self._fsync = "on" if durable else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="tessera-pg-"))
        self.port = free_port()
        self._number = 0

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        self._run(
            str(BINARIES / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8"
        )
        settings = f"-c listen_addresses=127.0.0.1 -c fsync={self._fsync} -c max_connections=200"
        options = f"-p {self.port} -k {self.folder} {settings}"
        log = str(self.folder / "log")
        self._run(str(BINARIES / "pg_ctl"), "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, template: str = "template1") -> str:
        """The SQLAlchemy address of a new database: empty, or a copy of the one with this name."""
        self._number += 1
        name = f"t{self._number}_{int(time.time() * 1_000)}"
        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True
        ) as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[arg-type]
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, *command: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        with (self.folder / "setup.log").open("ab") if os.geteuid() else open(os.devnull, "ab") as log:  # noqa: PTH123
            subprocess.run([*prefix, *command], check=True, stdout=log, stderr=log, cwd="/")
