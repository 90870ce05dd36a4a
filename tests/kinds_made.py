"""Which kinds of records a run of the suite made, in whatever process (attack case AU-04)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

# The kinds of all records that were compared in this process, and where a file tells the other processes of each.
SEEN: set[str] = set()
FOLDERS: list[Path] = []


def saw(kind: str) -> None:
    """A test made a record of this kind, and it was compared with what the kind declares."""
    if kind not in SEEN:
        SEEN.add(kind)
        for folder in FOLDERS:
            (folder / kind).touch()


class KindsMade:
    """A plugin: every kind that a test made and compared leaves an empty file in a folder that all processes of the run
    share, and a run of the whole suite fails when one of the catalogue is missing."""

    def __init__(self, config: pytest.Config, catalogue: Iterable[str]) -> None:
        self._catalogue = frozenset(catalogue)
        given: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._leads = given is None
        self._folder = Path(tempfile.mkdtemp(prefix="tessera-kinds-") if given is None else given["kinds_folder"])
        FOLDERS[:] = [self._folder]
        self._missing: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker process of pytest-xdist where the folder is."""
        node.workerinput["kinds_folder"] = str(self._folder)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._leads and is_whole(session):
            self._missing = sorted(self._catalogue - {one.name for one in self._folder.iterdir()})
            if self._missing and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._missing:
            line = f"AU-04: no test made a record of these kinds: {', '.join(self._missing)}"
            terminalreporter.line(line, red=True)

    def pytest_unconfigure(self) -> None:
        if self._leads:
            shutil.rmtree(self._folder, ignore_errors=True)


def is_whole(session: pytest.Session) -> bool:
    """Whether all tests were asked for, and nothing ended the run early."""
    config, option = session.config, session.config.option
    paths = {str((config.rootpath / one).resolve()) for one in config.getini("testpaths")}
    asked = {str((config.invocation_params.dir / one).resolve()) for one in config.args}
    narrowed = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
    ended_early = session.shouldstop or session.shouldfail
    return asked == paths and not ended_early and not any(getattr(option, name, None) for name in narrowed)
