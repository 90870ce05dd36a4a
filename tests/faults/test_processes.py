"""Processes killed and stopped under load: what clients were told is what is stored (a tenth of the bench's counts)."""

from __future__ import annotations

import pytest

from tests.audit.proof import Ledger, Proof
from tests.faults import scenarios
from tests.faults.site import Site

# A busy machine may take its time; what is never true fails sooner, by `wait_for`.
pytestmark = pytest.mark.timeout(600)

KILLS, STOPS = 10, 2


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Site:
    made: Site = request.getfixturevalue("on_sqlite" if request.param == "sqlite" else "on_cluster")
    return made


@pytest.mark.case("RF-15", "AU-05")
def test_workers_killed_under_load_lose_nothing_that_was_answered(site: Site) -> None:
    verdict = scenarios.kill_workers(site, KILLS)
    assert verdict.clean, verdict
    ledger = Ledger(site.database_url, site.folder)
    try:
        proof = Proof(ledger)
        proof.seal()
        report = proof.verify()
        assert report.ok, report.findings
    finally:
        ledger.close()


@pytest.mark.case("RF-44")
def test_a_graceful_stop_under_load_loses_nothing_that_was_taken(site: Site) -> None:
    verdict = scenarios.stop_gracefully(site, STOPS)
    assert verdict.clean, verdict
    assert verdict.promised == verdict.kept > 0
