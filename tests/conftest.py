"""Fixtures: a whole Tessera on each database, with the demo company's rules and a few people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity.audit.kinds import Kind
from identity.core.i18n import speaking
from tests import remembered
from tests.kinds_made import KindsMade
from tests.servers.postgres import Postgres
from tests.servers.samba import Samba
from tests.servers.templates import Address, Templates
from tests.world import World


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """A test begins in the default language; a request leaves its browser's behind on the thread that served it."""
    with speaking("en"):
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    """A domain controller, one for each test process; each test has an organizational unit of its own."""
    server = Samba()
    server.start()
    yield server
    server.stop()


KINDS = ["sqlite", "postgresql"]

remembered.remember()


def server_of(request: pytest.FixtureRequest) -> Postgres | None:
    """Where a fixture with the parameters KINDS makes its database: on this server, or as a SQLite file."""
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return server


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path, templates: Templates) -> Address:
    """A database of each kind: migrated and with its keys (their root key is in `tmp_path`), otherwise empty, unless
    `templates.world` makes more of it."""
    return templates.address(server_of(request), tmp_path)


@pytest.fixture
def world(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[World]:
    """Tessera, migrated and configured."""
    made = templates.world(database_url, tmp_path)
    yield made
    made.close()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(KindsMade(config, Kind))
