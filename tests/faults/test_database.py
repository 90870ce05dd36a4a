"""The database crashes, loses connections, runs out of them, takes no writes, and fails over, under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.faults import scenarios
from tests.faults.site import Site
from tests.servers.cluster import Cluster
from tests.servers.templates import Templates

# A busy machine may take its time; what is never true fails sooner, by `wait_for`.
pytestmark = pytest.mark.timeout(600)

RESTARTS, ROUNDS, CLIENTS = 2, 20, 40


@pytest.mark.case("RF-01")
def test_a_database_that_crashes_and_comes_back_under_load(on_cluster: Site, cluster: Cluster) -> None:
    verdict, _waits = scenarios.restart_database(on_cluster, cluster, RESTARTS)
    assert verdict.clean, verdict


@pytest.mark.case("RF-02")
def test_connections_ended_by_the_server_again_and_again(on_cluster: Site, cluster: Cluster) -> None:
    verdict = scenarios.terminate_backends(on_cluster, cluster, ROUNDS)
    assert verdict.clean, verdict


@pytest.mark.case("RF-12")
def test_a_database_that_takes_no_writes(on_cluster: Site, cluster: Cluster) -> None:
    verdict = scenarios.make_read_only(on_cluster, cluster)
    assert verdict.clean, verdict
    assert verdict.refused, verdict


@pytest.fixture
def small(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Cluster]]:
    """On a database with few connections, of which an installation can have all."""
    with Cluster(max_connections="20") as server:
        site = Site(Templates(tmp_path_factory.mktemp("small")).copy(server, tmp_path), tmp_path)
        site.prepare()
        yield site, server


@pytest.mark.case("RF-08")
def test_a_database_without_a_connection_to_spare(small: tuple[Site, Cluster]) -> None:
    verdict = scenarios.run_out_of_connections(*small, CLIENTS)
    assert verdict.clean, verdict


@pytest.mark.case("RF-04")
def test_the_standby_that_takes_over_has_everything_that_was_acknowledged(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Cluster() as primary:
        url = Templates(tmp_path_factory.mktemp("failover")).copy(primary, tmp_path)
        standby = primary.standby()
        try:
            both = f"?host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}&target_session_attrs=read-write"
            name = make_url(url).database
            site = Site(f"postgresql+psycopg://postgres@/{name}{both}", tmp_path)
            site.prepare(url)
            there = f"postgresql+psycopg://postgres@127.0.0.1:{standby.port}/{name}"
            verdict, _took = scenarios.fail_over(site, primary, standby, there)
        finally:
            standby.stop()
    assert verdict.clean, verdict
