"""Installations on databases that a test may break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site
from tests.servers.cluster import Cluster
from tests.servers.templates import Templates


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for all tests of a module; each leaves it running."""
    with Cluster() as server:
        yield server


@pytest.fixture(scope="module")
def cluster_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def on_sqlite(tmp_path: Path, templates: Templates) -> Site:
    site = Site(templates.copy(None, tmp_path), tmp_path)
    site.prepare()
    return site


@pytest.fixture
def on_cluster(tmp_path: Path, cluster: Cluster, cluster_templates: Templates) -> Site:
    """On a database of the module's private cluster."""
    site = Site(cluster_templates.copy(cluster, tmp_path), tmp_path)
    site.prepare()
    return site
