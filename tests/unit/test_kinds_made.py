"""A run of the whole suite fails when a kind of record was made by no test, and a part of it does not ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
from tests.kinds_made import KindsMade

def pytest_configure(config):
    config.pluginmanager.register(KindsMade(config, ("made.by.one", "made.by.two", {more})))
"""
# Each in a file of its own, so that each worker process makes one.
TEST = """
from tests.kinds_made import saw

def test_it():
    saw("{kind}")
"""


@pytest.mark.case("AU-04")
@pytest.mark.parametrize(
    ("more", "options", "code"),
    [
        ("", ("-n2", "--dist=loadfile"), 0),
        ('"made.by.nobody"', ("-n2", "--dist=loadfile", "suite"), 1),
        ('"made.by.nobody"', ("suite/test_one.py",), 0),
    ],
)
def test_a_kind_that_no_test_made_fails_the_whole_run(
    tmp_path: Path, more: str, options: tuple[str, ...], code: int
) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ntestpaths = suite\npythonpath = {ROOT}\n")
    (suite / "conftest.py").write_text(CONFTEST.format(more=more))
    for name, kind in (("one", "made.by.one"), ("two", "made.by.two")):
        (suite / f"test_{name}.py").write_text(TEST.format(kind=kind))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "no:cacheprovider", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("AU-04: no test made a record of these kinds: made.by.nobody" in done.stdout) is (code == 1)
    assert "failed" not in done.stdout
