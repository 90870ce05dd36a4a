"""Decisions that wait for their commit hold no thread of the server."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from identity.core.db import Database
from tests.faults.checker import opened
from tests.faults.load import Client
from tests.faults.site import Site, wait_for

pytestmark = pytest.mark.timeout(600)
# More than the server's threads and ours together.
ASKING = 48


@pytest.mark.case("RF-11")
@pytest.mark.parametrize("kind", ["on_sqlite", "on_cluster"])
def test_while_decisions_wait_the_server_answers_others(kind: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(kind)
    with site.serving(), opened(site.database_url) as database, ThreadPoolExecutor(ASKING) as pool:
        clients = [Client(site, number) for number in range(ASKING)]
        wait_for(lambda: clients[0].do("decide").ok, "all to be well")
        # On PostgreSQL a writer gives up after two seconds, which may be short on a busy machine.
        assert any(others_are_answered(site, database, pool, clients) for _ in range(5))
        for client in clients:
            client.close()


def others_are_answered(site: Site, database: Database, pool: ThreadPoolExecutor, clients: Sequence[Client]) -> bool:
    """Whether they were while all of these clients' decisions waited for their commit."""
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE audit_record IN EXCLUSIVE MODE")
        asked = [pool.submit(client.do, "decide") for client in clients]
        answers = [site.status(path) for path in ("/healthz", "/.well-known/authzen-configuration", "/login")]
        waited = not any(one.done() for one in asked)
    assert answers == [200, 200, 303]
    assert {one.result().status for one in asked} <= {200, 503}
    return waited
