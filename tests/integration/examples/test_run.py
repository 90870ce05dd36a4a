"""`make run`: starts from nothing, starts again with what was there, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.demo import NAMES, Demo

# Seven processes start, on whatever machine this is.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that was started once and stopped by Ctrl-C; `output` is what it printed."""
    made = Demo(tmp_path_factory.mktemp("demo"))
    try:
        made.start()
        ended(made, signal.SIGINT)
        yield made
    finally:
        made.stop()


def ended(demo: Demo, number: int) -> None:
    """Stop it, and see that every process went with it."""
    running = demo.processes()
    assert len(running) >= 7  # granian and its two workers, the worker, three applications
    assert demo.stop(number) == 0
    assert "stopped." in demo.output
    assert eventually(lambda: not any(map(alive, running)))
    assert all(listeners(port) == set() for port in demo.ports)


def test_the_second_start_keeps_what_the_first_made(demo: Demo) -> None:
    first = demo.output
    secrets = {path.name: path.read_text() for path in (demo.var / "secrets").iterdir()}
    assert len(set(secrets.values())) == len(secrets) == 4
    assert min(map(len, secrets.values())) >= 43  # 256 bits
    second = demo.start(DATABASE_URL="postgresql+psycopg://somebody-elses", PUBLIC_URL="https://other.example")
    for port in demo.ports:
        assert listeners(port) == {"0100007F"}  # 127.0.0.1 in the kernel's notation
    ended(demo, signal.SIGTERM)
    assert {path.name: path.read_text() for path in (demo.var / "secrets").iterdir()} == secrets
    for line in ("database ...", "demo company", "directory"):
        assert line in first
        assert line not in second
    with closing(sqlite3.connect(demo.var / "tessera.db")) as database:
        assert database.execute("SELECT count(*) FROM policy_version").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM source_account").fetchone() == (300,)


def test_df_01_the_demo_says_that_it_serves_this_machine_and_only_its_owner_reads_the_secrets(demo: Demo) -> None:
    assert "on this machine only" in demo.output
    for path in (demo.var, demo.var / "secrets", demo.var / "root.key", *(demo.var / "secrets").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("name", NAMES)
def test_a_taken_port_is_named_before_anything_is_done(tmp_path: Path, name: str) -> None:
    demo = Demo(tmp_path)
    port = demo.ports[NAMES.index(name)]
    with socket.create_server(("127.0.0.1", port)):
        message = refused_start(demo)
    assert f"Port {port} ({name}) is taken by another program." in message
    assert not (demo.var / "tessera.db").exists()


def test_an_application_that_ends_by_itself_ends_the_demo_with_its_log(demo: Demo, tmp_path: Path) -> None:
    broken = Demo(tmp_path, demo.ports)
    shutil.copytree(demo.var, broken.var)
    (broken.var / "apps" / "oa.db").unlink()
    (broken.var / "apps" / "oa.db").mkdir()  # the office cannot open its store
    message = refused_start(broken)
    assert "The oa ended (status 1)" in message
    assert "unable to open database file" in message
    assert all(listeners(port) == set() for port in demo.ports)


def refused_start(demo: Demo) -> str:
    """What a demo says that does not come up."""
    with pytest.raises(AssertionError, match="status 1: ") as error:
        demo.start()
    demo.stop()
    return str(error.value)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within seconds: the kernel and init take their time with killed grandchildren."""
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def listeners(port: int) -> set[str]:
    """The local addresses on which somebody listens at this port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":
                found.add(address)
    return found
