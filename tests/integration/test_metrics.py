"""`/metrics`: what the recorder counts, for those who may read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.test_unavailable import cut_off  # noqa: F401
from tests.world import World


def numbers(text: str) -> dict[str, float]:
    """Name without labels → value; every line is a comment or a sample."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# TYPE "):
            sample = re.fullmatch(r'([a-z_]+)(?:\{process="\d+"\})? ([0-9.e+-]+)', line)
            assert sample, line
            found[sample[1]] = float(sample[2])
    return found


def read(world: World, address: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    environ = {"REMOTE_ADDR": address}
    answer = world.call("GET", "/metrics", environ_overrides=environ, headers=headers)
    return answer.status_code, answer.text


def test_metrics_count_what_was_recorded_and_how(world: World) -> None:
    user = world.person("zhang", "staff")
    for number in range(5):
        world.decide(user, "read", f"c{number}")
    status, text = read(world)
    found = numbers(text)
    assert status == 200
    assert found["tessera_recorder_records_total"] == 5
    assert 1 <= found["tessera_recorder_commits_total"] <= 5
    assert found["tessera_recorder_commit_seconds_total"] > 0
    assert found["tessera_recorder_queue_jobs"] == found["tessera_recorder_full_total"] == 0
    assert found["tessera_database_up"] == 1
    assert found["tessera_decisions_missed_records"] == 0
    assert "tessera_audit_gap_seconds" in found
    assert "zhang" not in text


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
        ("", {}),
    ],
)
def test_others_do_not_read_them(world: World, address: str, headers: dict[str, str]) -> None:
    status, text = read(world, address, **headers)
    assert status == 403
    assert "tessera" not in text


def test_behind_a_trusted_proxy_the_reader_counts(database_url: str, tmp_path: Path) -> None:
    settings = {"trusted_proxies": "127.0.0.1/32", "metrics_networks": "10.9.0.0/16"}
    world = World(database_url, tmp_path, **settings)
    try:
        assert read(world, **{"X-Forwarded-For": "10.9.8.7"})[0] == 200
        assert read(world, **{"X-Forwarded-For": "10.8.8.7"})[0] == 403
        assert read(world)[0] == 403
    finally:
        world.close()


def test_without_a_database_the_process_still_answers_for_itself(cut_off: tuple[World, str]) -> None:  # noqa: F811
    status, text = read(cut_off[0])
    found = numbers(text)
    assert status == 200
    assert found["tessera_database_up"] == 0
    assert "tessera_audit_gap_seconds" not in found
    assert "tessera_recorder_queue_jobs" in found
