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

# What is thrown away needs no safety, no cleaning up in hundreds of small databases, and nobody to copy it to.
QUICK = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "wal_level=minimal"]
QUICK += ["max_wal_senders=0"]


class Postgres:
    """Started by `start`, stopped and removed by `stop`. As root it runs as the user `postgres`."""

    def __init__(self, *, durable: bool = False) -> None:
        """`durable`: each commit is flushed to disk, as in production."""
        quick = (
            "fsync=off synchronous_commit=off full_page_writes=off autovacuum=off wal_level=minimal max_wal_senders=0"
        )
        self._settings = ["fsync=on"] if durable else quick.split()
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
        chosen = ["listen_addresses=127.0.0.1", "max_connections=200", *self._settings]
        settings = " ".join(f"-c {one}" for one in chosen)
        options = f"-p {self.port} -k {self.folder} {settings}"
        log = str(self.folder / "log")
        self._run(str(BINARIES / "pg_ctl"), "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self) -> str:
        """A SQLAlchemy address at which there is no database yet."""
        self._number += 1
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/t{self._number}_{int(time.time() * 1_000)}"

    def database(self, address: str = "", template: str = "") -> str:
        """A new database at this or some address, which is returned: empty, or a copy of the one at `template`."""
        address = address or self.address()
        name, source = (one.rpartition("/")[2] for one in (address, template or "/template1"))
        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True
        ) as admin:
            # Copying files takes a third of writing every page to the log.
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY')  # type: ignore[arg-type]
        return address

    def _run(self, *command: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        with (self.folder / "setup.log").open("ab") if os.geteuid() else open(os.devnull, "ab") as log:  # noqa: PTH123
            subprocess.run([*prefix, *command], check=True, stdout=log, stderr=log, cwd="/")
