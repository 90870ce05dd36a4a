"""Pure parts of drafts: how two people's changes meet, and that different rules read differently."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from identity.roles.draft_rows import by_id, deltas, merge
from identity.roles.inputs import (
    DutyRuleInput,
    InheritanceInput,
    MappingInput,
    PermissionInput,
    RuleSetInput,
    ScopeTransform,
)
from identity.roles.summary import summary

DAY = datetime(2026, 3, 31, tzinfo=UTC)
PERMISSION = PermissionInput(role="app:r", application="app", type="t", action="read")
MAPPING = MappingInput(source_kind="group", source="g", role="app:r")
STATIC: dict[str, Any] = {
    "sides": [{"roles": ["app:a"]}, {"permissions": [["app", "t", "pay"]]}],
    "n": 2,
    "scope": "any",
}
DUTY = DutyRuleInput(id="P01", kind="static", title="two hands", definition=STATIC)

DIFFERENT: list[Any] = [
    PERMISSION,
    *(
        PERMISSION.model_copy(update=change)
        for change in (
            {"role": "app:s"},
            {"application": "other"},
            {"type": "u"},
            {"pattern": "a/*"},
            {"action": "write"},
            {"effect": "deny"},
            {"effect": "deny", "inherited": True},
            {"condition": "1 == 1"},
            {"obligations": ({"id": "mfa"},)},
            {"valid_from": DAY},
            {"valid_until": DAY},
        )
    ),
    InheritanceInput(senior="app:r", junior="app:s"),
    InheritanceInput(senior="app:s", junior="app:r"),
    MAPPING,
    *(
        MAPPING.model_copy(update=change)
        for change in (
            {"source_kind": "unit"},
            {"source": "h"},
            {"role": "app:s"},
            {"exclude": True},
            {"condition": "1 == 1"},
            {"scope": ScopeTransform(transform="narrow", company="C1")},
            {"scope": ScopeTransform(transform="fixed", company="C1")},
            {"scope": ScopeTransform(transform="narrow", org_unit="C1")},
            {"scope": ScopeTransform(transform="narrow", business_type="C1")},
            {"limit": {"value": "5.00", "currency": "CNY"}},
            {"limit": {"value": "5.00", "currency": "USD"}},
            {"valid_from": DAY},
            {"valid_until": DAY},
        )
    ),
    DUTY,
    *(
        DUTY.model_copy(update=change)
        for change in (
            {"id": "P02"},
            {"title": "others"},
            {"level": "L"},
            {"definition": {**STATIC, "scope": "company"}},
            {"definition": {**STATIC, "n": 3}},
            {"definition": {**STATIC, "sides": [{"roles": ["app:a"]}, {"permissions": [["app", "t", "post"]]}]}},
            {"definition": {**STATIC, "sides": [{"roles": ["app:a"]}, {"roles": ["app:b"]}]}},
            {"kind": "dynamic", "definition": {"roles": ["app:a", "app:b"], "n": 2}},
            {"kind": "object", "definition": {"application": "app", "type": "t", "actions": ["make", "pay"]}},
            {"kind": "object", "definition": {"application": "app", "type": "t", "actions": ["pay", "make"]}},
        )
    ),
]


def test_an_approver_reads_every_difference_between_two_rules() -> None:
    for one, other in combinations(DIFFERENT, 2):
        assert summary(one) != summary(other), (one, other)


def content(actions: set[str], duty: dict[str, Any] | None = None) -> RuleSetInput:
    rows = tuple(PERMISSION.model_copy(update={"action": one}) for one in sorted(actions))
    return RuleSetInput(permissions=rows, duties=(DUTY.model_copy(update={"definition": duty}),) if duty else ())


def actions(rules: RuleSetInput) -> set[str]:
    return {one.action for one in rules.permissions}


NAMES = st.sets(st.sampled_from("abcdef"))


@settings(max_examples=300, deadline=None)
@given(NAMES, NAMES, NAMES)
def test_a_draft_brought_up_to_date_keeps_both_peoples_changes(
    base: set[str], mine: set[str], theirs: set[str]
) -> None:
    merged, conflicts = merge(content(base), content(mine), content(theirs))
    refused = {row.action for _, row in conflicts}
    assert refused == (base - mine) - theirs
    assert actions(merged) == (theirs - (base - mine)) | (mine - base)


def test_a_rule_that_both_replaced_is_told_and_the_same_change_by_both_is_none() -> None:
    base, mine, theirs = (content(set(), {**STATIC, "n": 2, "scope": one}) for one in ("any", "unit", "company"))
    _merged, conflicts = merge(base, mine, theirs)
    assert [(part, row.definition["scope"]) for part, row in conflicts] == [("duties", "any"), ("duties", "unit")]
    merged, conflicts = merge(content({"a"}), content({"a", "b"}), content({"a", "b"}))
    assert conflicts == []
    assert actions(merged) == {"a", "b"}


def test_a_duty_under_an_id_that_is_taken_is_told() -> None:
    _merged, conflicts = merge(content(set()), content(set(), STATIC), content(set(), {**STATIC, "scope": "unit"}))
    assert [part for part, _row in conflicts] == ["duties"]


def test_what_two_versions_differ_in_is_by_rows() -> None:
    [delta] = deltas(content({"a", "b"}), content({"b", "c"}))
    assert [one.action for one in delta.added.values()] == ["c"]
    assert [one.action for one in delta.removed.values()] == ["a"]
    assert set(by_id(content({"a", "b"}), "permissions")) >= set(delta.removed)
