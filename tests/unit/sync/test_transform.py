"""Transforms: by expression, by table, and never a guess."""

from __future__ import annotations

from typing import Any

import pytest

from identity.core.errors import Invalid
from identity.directory.entries import wanted_attributes
from identity.directory.reader import DirectoryEntry, ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings
from identity.directory.transform import Transformer
from identity.sync.plan import KnownDirectory
from identity.sync.plan_users import make

ENTRY = DirectoryEntry(
    "user", "a", "uid=a,dc=x", {"uid": ("Zhang@corp",), "sn": ("张",), "givenname": ("三",), "o": ("总公司",)}
)


def transformer(*transforms: dict[str, Any], kind: str = "ldif", **settings: Any) -> Transformer:
    values = {"path": "x"} if kind == "ldif" else {"urls": ["ldaps://x"], "users_base": "dc=x"}
    return Transformer(DirectorySettings.load(kind, {**values, "transforms": transforms, **settings}))


def taken(*transforms: dict[str, Any]) -> dict[str, Any]:
    """The values with which this person would be added."""
    found = transformer(*transforms)
    plan = make(found.apply(Reading((ENTRY,))), KnownDirectory(), found.settings)
    return dict(plan.changes[0].after)


def test_fields_are_made_by_expressions_and_tables() -> None:
    values = taken(
        {"field": "name", "expression": "entry.sn[0] + entry.givenname[0]"},
        {"field": "login", "expression": 'lower(before(value, "@"))'},
        {"field": "company", "lookup": {"总公司": "XH01"}, "otherwise": "error"},
        {"field": "mail", "expression": 'has(entry.mail) ? entry.mail[0] : lower(value) + after(entry.uid[0], "@")'},
        {"field": "phone", "expression": "null"},
    )
    assert (values["name"], values["login"], values["company"]) == ("张三", "zhang", "XH01")
    assert (values["mail"], values["phone"], values["family_name"]) == ("corp", None, "张")


def test_two_fields_of_one_attribute_do_not_touch_each_other() -> None:
    values = taken({"field": "name", "expression": "upper(entry.uid[0])"})
    assert values["login"] == "Zhang@corp"


@pytest.mark.parametrize(("otherwise", "value"), [("keep", "总公司"), ("drop", None)])
def test_a_value_that_stands_in_no_line_of_the_table(otherwise: str, value: str | None) -> None:
    assert taken({"field": "company", "lookup": {"x": "y"}, "otherwise": otherwise})["company"] == value


@pytest.mark.parametrize(
    "step",
    [
        {"field": "name", "expression": "entry.nowhere[0]"},
        {"field": "name", "expression": "1 + 1"},
        {"field": "name", "expression": "entry"},
        {"field": "company", "lookup": {"x": "y"}, "otherwise": "error"},
    ],
)
def test_what_cannot_be_made_fails_the_read_and_names_the_entry(step: dict[str, Any]) -> None:
    with pytest.raises(ReadIncomplete) as failed:
        transformer(step).apply(Reading((ENTRY,)))
    assert "uid=a,dc=x" in str(failed.value.detail)


@pytest.mark.parametrize("source", ["entry.", "entry.sn.map(x, x)[0]", "x" * 2_000, ""])
def test_what_is_no_expression_or_has_no_bound_is_refused(source: str) -> None:
    with pytest.raises(Invalid):
        transformer({"field": "name", "expression": source})


def test_a_field_has_one_transform_and_only_known_fields_have_any() -> None:
    for steps in (
        [{"field": "name", "expression": "value"}, {"field": "name", "expression": "value"}],
        [{"field": "sub", "expression": "value"}],
    ):
        with pytest.raises(Invalid):
            transformer(*steps)


def test_what_an_expression_reads_is_asked_for() -> None:
    found = transformer(
        {"field": "name", "expression": 'entry.initials[0] + entry["x-Code"][0]'},
        {"field": "group_title", "expression": "entry.info[0]"},
        kind="openldap",
    )
    assert {"initials", "x-Code"} <= set(wanted_attributes(found.settings, "user"))
    assert "info" not in wanted_attributes(found.settings, "user")
    assert "info" in wanted_attributes(found.settings, "group")
