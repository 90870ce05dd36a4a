"""The disk fills up, and calls to the disk fail: requests are refused, nothing that was answered is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import scenarios
from tests.faults.site import Site
from tests.servers.scarce import ScarceDisk

# A busy machine may take its time; what is never true fails sooner, by `wait_for`.
pytestmark = pytest.mark.timeout(600)

FILLS = 2


@pytest.mark.case("RF-13", "AU-05")
def test_a_full_disk_refuses_and_goes_on_when_there_is_room(on_sqlite: Site, tmp_path: Path) -> None:
    with ScarceDisk(tmp_path / "disk", megabytes=32) as disk:
        site = scenarios.moved(on_sqlite, disk, tmp_path / "disk")
        verdict = scenarios.fill_disk(site, disk, FILLS)
        assert verdict.clean, verdict
        assert verdict.refused, verdict


@pytest.mark.case("RF-14")
def test_calls_that_fail_now_and_then_and_a_log_that_cannot_be_written(on_sqlite: Site) -> None:
    verdict = scenarios.fail_calls(on_sqlite, 40)
    assert verdict.clean, verdict
    assert verdict.refused, verdict
