"""PostgreSQL clusters that a test may kill, restart, fill up or fail over; never the suite's shared one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.servers.postgres import BINARIES, Postgres
from tests.servers.slapd import free_port


class Cluster(Postgres):
    """Runs while the context is open; `options` are settings of the server."""

    def __init__(self, **options: str) -> None:
        super().__init__()
        self.options = {"max_connections": "100", "fsync": "off", **options}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        words = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync")
        self._run(str(BINARIES / "initdb"), "-D", str(self.data), *words)
        self.up()

    def up(self) -> None:
        """Start the server on the data that is there, and return when it answers."""
        options = {"port": str(self.port), "unix_socket_directories": str(self.folder), **self.options}
        options["listen_addresses"] = "127.0.0.1"
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        log = str(self.folder / "log")
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self.data), "-o", words, "-l", log, "-t", "120", "-w", "start")

    def down(self, mode: str = "immediate") -> None:
        """Stop as `pg_ctl -m` does: "immediate" is without a last checkpoint, as after a crash."""
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self.data), "-m", mode, "-t", "120", "-w", "stop")

    def kill(self) -> None:
        """kill -9 of the server and all its processes; returns when they have gone."""
        postmaster = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        processes = [postmaster, *_children(postmaster)]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(_lives(one) for one in processes):
            assert time.monotonic() < deadline, "PostgreSQL does not die"
            time.sleep(0.01)

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            with suppress(subprocess.CalledProcessError):  # it was killed
                self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the superuser, past everything between the application and the server."""
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database} application_name=held",
            autocommit=True,
            connect_timeout=10,
        )

    def execute(self, *statements: str) -> None:
        """Run these one by one, each in a transaction of its own."""
        with self.admin() as connection:
            for one in statements:
                connection.execute(one)

    @contextmanager
    def all_connections(self) -> Iterator[None]:
        """While open, we hold every connection that there is."""
        held = [self.admin()]
        most = int(self.options["max_connections"])
        try:
            deadline = time.monotonic() + 60
            while len(held) < most:
                assert time.monotonic() < deadline, "the connections cannot be had"
                held[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND application_name <> 'held'"
                )
                try:
                    held.append(self.admin())
                except psycopg.OperationalError:
                    continue
            yield
        finally:
            for one in held:
                one.close()

    def standby(self, **options: str) -> Cluster:
        """A synchronous standby, running; from now on nothing is acknowledged that it does not have."""
        other = Cluster(**options)
        other.port = free_port()
        if os.geteuid() == 0:
            shutil.chown(other.folder, "postgres", "postgres")
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name=standby"
        self._run(
            str(BINARIES / "pg_basebackup"), "-D", str(other.data), "-R", "-X", "stream", "-c", "fast", "-d", source
        )
        other.up()
        self.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()")
        deadline = time.monotonic() + 60
        with self.admin() as connection:
            while connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone() != ("sync",):
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.05)
        return other

    def promote(self) -> None:
        """The standby is the primary when this returns."""
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self.data), "-t", "60", "-w", "promote")


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
