"""Databases of the audit alone, cloned from a template, so that each test can spoil one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from identity.core import migrate
from tests.audit.proof import Ledger, Proof
from tests.servers.postgres import Postgres

Clone = Callable[[str, str, Path], Ledger]


@pytest.fixture(scope="session")
def clone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """`clone(kind, state, folder)`: a ledger of its own on `sqlite` or `postgresql`, `empty` or `sealed`."""
    made: dict[tuple[str, str], tuple[str, Path]] = {}

    def template(kind: str, state: str) -> tuple[str, Path]:
        if (kind, state) not in made:
            folder = tmp_path_factory.mktemp(f"{kind}-{state}")
            url = f"sqlite:///{folder / 'tessera.db'}"
            if kind == "postgresql":
                server: Postgres = request.getfixturevalue("postgres")
                url = server.database()
            ledger = Ledger(url, folder)
            migrate.upgrade(ledger.database.engine)
            if state == "sealed":
                fill(Proof(ledger))
            ledger.close()
            made[kind, state] = url, folder
        return made[kind, state]

    def copy(kind: str, state: str, folder: Path) -> Ledger:
        url, source = template(kind, state)
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return Ledger(f"sqlite:///{folder / 'tessera.db'}" if kind == "sqlite" else cloned(url), folder)

    return copy


def cloned(url: str) -> str:
    """A copy of a PostgreSQL database that nobody uses."""
    source = make_url(url)
    name = f"{source.database}_{datetime.now(UTC):%H%M%S%f}"
    address = f"host=127.0.0.1 port={source.port} user=postgres dbname=postgres"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source.database}"')  # type: ignore[arg-type]
    return source.set(database=name).render_as_string(hide_password=False)


def fill(proof: Proof) -> None:
    """Some 310 sealed records in two anchored heads, and five that are not sealed yet."""
    proof.record(200)
    proof.seal()
    proof.record(110)
    proof.seal(datetime.now(UTC) + timedelta(minutes=2))
    proof.record(5)


@pytest.fixture(params=["sqlite", "postgresql"])
def proof(request: pytest.FixtureRequest, clone: Clone, tmp_path: Path) -> Iterator[Proof]:
    """An empty audit on each database."""
    ledger = clone(request.param, "empty", tmp_path)
    yield Proof(ledger)
    ledger.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def sealed(request: pytest.FixtureRequest, clone: Clone, tmp_path: Path) -> Iterator[Proof]:
    """The audit that `fill` makes, on each database."""
    ledger = clone(request.param, "sealed", tmp_path)
    yield Proof(ledger)
    ledger.close()


@pytest.fixture
def clone_of_one(clone: Clone, tmp_path: Path) -> Iterator[Proof]:
    """The audit that `fill` makes, on SQLite: for tests of what leaves the database, which is the same on both."""
    ledger = clone("sqlite", "sealed", tmp_path)
    yield Proof(ledger)
    ledger.close()


@pytest.fixture
def clone_of_empty(clone: Clone, tmp_path: Path) -> Iterator[Proof]:
    """An empty audit on SQLite: for tests of what leaves the database, which is the same on both."""
    ledger = clone("sqlite", "empty", tmp_path)
    yield Proof(ledger)
    ledger.close()
