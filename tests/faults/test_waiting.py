"""Decisions that wait for their commit hold no thread of the server."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

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
        with database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE audit_record IN EXCLUSIVE MODE")
            asked = [pool.submit(client.do, "decide") for client in clients]
            # Later they may be told that it takes too long.
            open_still = [
                site.status("/healthz") == 200
                and site.status("/.well-known/authzen-configuration") == 200
                and site.status("/login") == 303
                and not any(one.done() for one in asked)
                for _ in range(5)
            ]
            assert any(open_still)
        told = Counter(one.result().status for one in asked)
        assert told.keys() <= {200, 503}
        for client in clients:
            client.close()
