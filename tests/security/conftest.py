"""One Tessera for all tests of a file, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import KINDS, server_of
from tests.security.town import TOWN, Town
from tests.servers.templates import Templates


@pytest.fixture(scope="module", params=KINDS)
def town(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Town]:
    """Shared by the file's tests, which make people of their own and put back what they change."""
    folder = tmp_path_factory.mktemp("town")
    made = templates.world(templates.address(server_of(request), folder), folder, TOWN, kind=Town)
    yield made
    made.close()
