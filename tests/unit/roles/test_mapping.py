"""From facts to memberships: what a mapping row gives, narrows and takes away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from identity.roles import rules
from identity.roles.inputs import MappingInput, RuleSetInput, ScopeTransform
from identity.roles.mapping import AssignmentFact, EmploymentFact, MappingWorld, UserFacts, derive
from policies import ANYWHERE, Amount, Grant, Scope

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ORG = {"C1": ("C1",), "FIN": ("FIN", "C1"), "AP": ("AP", "FIN", "C1"), "C2": ("C2",), "SALES": ("SALES", "C2")}
ME = UUID(int=1)


def job(company: str, unit: str | None, position: str | None = None, **parts: Any) -> EmploymentFact:
    fixed = {"primary": True, "valid_from": None, "valid_until": None}
    return EmploymentFact("e", company, unit, ORG[unit or company], position, **{**fixed, **parts})


def user(*groups: str, jobs: tuple[EmploymentFact, ...] = (), **attributes: Any) -> UserFacts:
    return UserFacts(ME, ME, groups, jobs, attributes)


def row(kind: str, source: str, role: str, **parts: Any) -> MappingInput:
    scope = ScopeTransform(**parts.pop("scope", {}))
    return MappingInput(source_kind=kind, source=source, role=role, scope=scope, **parts)  # type: ignore[arg-type]


def world(*rows: MappingInput, **parts: Any) -> MappingWorld:
    by_source: dict[tuple[str, str], list[Any]] = {}
    for one in rules.mapping_rules(RuleSetInput(mappings=rows)):
        by_source.setdefault((one.source_kind, one.source), []).append(one)
    fixed: dict[str, Any] = {"assignments": {}, "group_parents": {}, "org": ORG}
    return MappingWorld({key: tuple(found) for key, found in by_source.items()}, **{**fixed, **parts})


def grants(who: UserFacts, within: MappingWorld) -> list[Grant]:
    return [one.grant for one in derive(who, within)]


def scopes(who: UserFacts, within: MappingWorld, role: str) -> list[tuple[str | None, ...]]:
    return sorted((tuple(one.scope) for one in grants(who, within) if one.role == role), key=str)


def test_a_business_role_leads_to_several_applications_through_nested_groups() -> None:
    within = world(
        row("group", "finance", "business:cashier"),
        row("business_role", "business:cashier", "expense:pay", scope={"transform": "narrow", "company": "C1"}),
        row("business_role", "business:cashier", "erp:pay"),
        group_parents={"till": ("finance",), "finance": ("till",)},
    )
    found = derive(user("till"), within)
    assert {one.grant.role for one in found} == {"business:cashier", "expense:pay", "erp:pay"}
    [expense] = [one for one in found if one.grant.role == "expense:pay"]
    assert expense.grant.scope.company == "C1"
    assert expense.steps[:2] == ("group:till", "group:finance")


def test_a_position_held_in_two_companies_gives_both_scopes() -> None:
    within = world(row("position", "cashier", "expense:pay"))
    who = user(jobs=(job("C1", "FIN", "cashier"), job("C2", "SALES", "cashier", primary=False)))
    assert scopes(who, within, "expense:pay") == [("C1", None, None), ("C2", None, None)]


def test_an_assignment_to_a_unit_carries_the_company_and_the_time_of_the_employment_that_caused_it() -> None:
    fact = AssignmentFact("a", "expense:read", ANYWHERE, None, NOW, None)
    within = world(assignments={("unit", "C1"): (fact,), ("unit", "C2"): (fact,)})
    [grant] = grants(user(jobs=(job("C1", "AP", valid_until=NOW + DAY),)), within)
    assert (grant.scope, grant.valid_from, grant.valid_until) == (Scope("C1"), NOW, NOW + DAY)


def test_scopes_are_narrowed_and_never_widened() -> None:
    def derived(**scope: Any) -> list[tuple[str | None, ...]]:
        within = world(
            row("position", "head", "business:head", scope={"transform": "narrow", "org_unit": "FIN"}),
            row("business_role", "business:head", "expense:approve", scope=scope),
        )
        return scopes(user(jobs=(job("C1", "AP", "head"),)), within, "expense:approve")

    assert derived() == [("C1", "FIN", None)]
    assert derived(transform="narrow", org_unit="AP") == [("C1", "AP", None)]
    assert derived(transform="narrow", org_unit="C1") == [("C1", "FIN", None)]
    assert derived(transform="narrow", org_unit="SALES") == []
    assert derived(transform="narrow", company="C2") == []
    assert derived(transform="narrow", org_unit="@own", business_type="travel") == [("C1", "AP", "travel")]
    assert derived(transform="fixed", company="C1", org_unit="AP") == [("C1", "AP", None)]
    assert derived(transform="fixed", company="C1") == []


def test_the_smaller_limit_holds_and_two_currencies_give_nothing() -> None:
    def limits(first: dict[str, str], second: dict[str, str]) -> list[Amount | None]:
        within = world(
            row("group", "g", "business:a", limit=first),
            row("business_role", "business:a", "expense:a", limit=second),
        )
        return [one.limit for one in grants(user("g"), within) if one.role == "expense:a"]

    thousand, hundred = {"value": "1000", "currency": "CNY"}, {"value": "100", "currency": "CNY"}
    assert limits(thousand, hundred) == limits(hundred, thousand) == [Amount(1_000_000, "CNY")]
    assert limits(thousand, {"value": "1", "currency": "USD"}) == []


def test_an_excluding_row_takes_every_mapped_membership_and_no_assignment() -> None:
    fact = AssignmentFact("a", "expense:pay", ANYWHERE, None, None, None)
    within = world(
        row("group", "g", "expense:pay"),
        row("group", "h", "business:cashier"),
        row("business_role", "business:cashier", "expense:pay"),
        row("group", "out", "expense:pay", exclude=True),
        assignments={("user", str(ME)): (fact,)},
    )
    assert {one.cause[:7] for one in grants(user("g", "h"), within)} == {"mapping", "assignm"}
    left = [one for one in grants(user("g", "h", "out"), within) if one.role == "expense:pay"]
    assert [one.cause for one in left] == ["assignment:a"]


def test_an_excluding_row_of_a_time_excludes_in_that_time_only() -> None:
    within = world(
        row("group", "g", "expense:pay", valid_until=NOW + 9 * DAY),
        row("group", "g", "expense:pay", exclude=True, valid_from=NOW, valid_until=NOW + DAY),
    )
    found = [(one.valid_from, one.valid_until) for one in grants(user("g"), within)]
    assert sorted(found, key=str) == sorted([(None, NOW), (NOW + DAY, NOW + 9 * DAY)], key=str)


def test_an_excluded_business_role_leads_nowhere() -> None:
    within = world(
        row("group", "g", "business:a"),
        row("business_role", "business:a", "business:b"),
        row("business_role", "business:b", "expense:pay"),
        row("business_role", "business:a", "business:b", exclude=True),
    )
    assert [one.role for one in grants(user("g"), within)] == ["business:a"]


def test_a_condition_that_fails_adds_nothing_and_keeps_nothing() -> None:
    broken = "subject.properties.nothing == 1"
    assert grants(user("g"), world(row("group", "g", "expense:pay", condition=broken))) == []
    both = world(row("group", "g", "expense:pay"), row("group", "g", "expense:pay", exclude=True, condition=broken))
    assert grants(user("g"), both) == []
    matching = world(row("group", "g", "expense:pay", condition='subject.properties.grade == "P7"'))
    assert grants(user("g", grade="P6"), matching) == []
    assert len(grants(user("g", grade="P7"), matching)) == 1


def test_a_console_role_never_comes_out_of_a_mapping() -> None:
    within = world(row("group", "g", "tessera:security-admin"))
    assert grants(user("g"), within) == []


def test_a_held_gain_is_left_out_and_nothing_else() -> None:
    within = world(row("group", "g", "expense:pay"), row("group", "h", "expense:pay"))
    [first, second] = grants(user("g", "h"), within)
    held = world(
        row("group", "g", "expense:pay"),
        row("group", "h", "expense:pay"),
        held_gains={ME: frozenset({("expense:pay", first.cause)})},
    )
    assert grants(user("g", "h"), held) == [second]
