"""The list of attack cases is that of the tests."""

from __future__ import annotations

from tests import cases


def test_the_list_of_attack_cases_is_that_of_the_tests() -> None:
    """Compared as a set: branches that both add lines are merged line by line (.gitattributes)."""
    written = {one for one in cases.LIST.read_text(encoding="utf-8").splitlines() if one.startswith("- ")}
    tested = {one for one in cases.text().splitlines() if one.startswith("- ")}
    assert written == tested, "run `python -m tests.cases`"
