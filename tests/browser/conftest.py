"""One site and one browser for all journeys of a process; each test is a visitor of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.servers.browser import Seeds, launch
from tests.servers.site import Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(Path(tmp_path_factory.mktemp("site"))) as running:
        yield running


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as made:
        yield made


@pytest.fixture(scope="session")
def browser(playwright: Playwright, site: Site) -> Iterator[Browser]:
    made = launch(playwright, site)
    yield made
    made.close()


@pytest.fixture(scope="session")
def seeds() -> Seeds:
    return Seeds()
