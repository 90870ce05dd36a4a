"""One Tessera for all tests of a file, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.town import TOWN, Town
from tests.servers.postgres import Postgres


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Shared by the file's tests, which make people of their own and put back what they change."""
    folder = tmp_path_factory.mktemp("town")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'tessera.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    made = Town(url, folder, TOWN)
    yield made
    made.close()
