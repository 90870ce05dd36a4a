"""The engine against a naive evaluator that reads like the specification, and its rules one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import (
    Act,
    Action,
    Amount,
    Engine,
    Grant,
    ObjectDuty,
    Permission,
    Request,
    Resource,
    RuleSet,
    Scope,
    StaticDuty,
    static_conflicts,
    validate,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = [f"app:r{n}" for n in range(12)]
IDS = ["a", "a/b", "a/b/c", "x", "x/b"]
PATTERNS = [*IDS, "**", "a/**", "*/b", "a/*", "a/b/**"]


def rules_of(*permissions: Permission, **parts: Any) -> RuleSet:
    return RuleSet(version=1, permissions=permissions, **parts)


def permit(role: str, pattern: str = "**", **parts: Any) -> Permission:
    return Permission(f"{role}-{pattern}-{parts.get('effect', 'permit')}", role, "app", "t", pattern, "do", **parts)


def ask(rules: RuleSet, *grants: Grant, resource_id: str = "a", org: Any = None, **parts: Any) -> str:
    engine = Engine(rules, org or {})
    subject = engine.subject("s", "p", grants=grants)
    resource = Resource("app", "t", resource_id, parts.pop("properties", {}))
    return engine.evaluate(Request(subject, Action("do"), resource, {}, NOW, **parts)).reason


def matches(pattern: str, resource_id: str) -> bool:
    parts, segments = pattern.split("/"), resource_id.split("/")
    if parts[-1] == "**":
        parts, segments = parts[:-1], segments[: len(parts) - 1]
    return len(parts) == len(segments) and all(p in {"*", s} for p, s in zip(parts, segments, strict=True))


def naive(rules: RuleSet, grants: list[Grant], resource_id: str, company: str | None) -> bool:
    """Default deny; a deny overrides; one tuple must satisfy everything."""

    def below(role: str) -> set[str]:
        found = {role}
        while more := {j for s, j in rules.inheritance if s in found} - found:
            found |= more
        return found

    def holds(grant: Grant, permission: Permission) -> bool:
        deny = permission.effect == "deny"
        roles = {grant.role} if deny and not permission.inherited else below(grant.role)
        wanted = grant.scope.company
        fits = wanted is None or wanted == company or (deny and company is None)
        return permission.role in roles and fits

    hit = [p for p in rules.permissions if matches(p.pattern, resource_id)]
    found = {p.effect for p in hit for g in grants if holds(g, p)}
    return found == {"permit"}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_decision_differs_from_the_naive_evaluator(data: st.DataObject) -> None:
    edges = data.draw(
        st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda e: e[0] < e[1]), max_size=14)
    )
    permission = st.builds(
        Permission,
        id=st.uuids().map(str),
        role=st.sampled_from(ROLES),
        application=st.just("app"),
        resource_type=st.just("t"),
        pattern=st.sampled_from(PATTERNS),
        action=st.just("do"),
        effect=st.sampled_from(["permit", "permit", "deny"]),
        inherited=st.booleans(),
    )
    rules = RuleSet(
        1,
        tuple(data.draw(st.lists(permission, max_size=12))),
        tuple((ROLES[a], ROLES[b]) for a, b in edges),
    )
    scope = st.sampled_from([Scope(), Scope("c1"), Scope("c2")])
    grants = data.draw(st.lists(st.builds(Grant, role=st.sampled_from(ROLES), scope=scope), max_size=4))
    engine = Engine(rules)
    subject = engine.subject("s", "p", grants=grants)
    for resource_id in IDS:
        for company in (None, "c1", "c2"):
            properties = {"company": company} if company else {}
            resource = Resource("app", "t", resource_id, properties)
            decision = engine.evaluate(Request(subject, Action("do"), resource, {}, NOW))
            assert decision.permit == naive(rules, grants, resource_id, company), (resource_id, company)


@pytest.mark.parametrize("depth", [1, 9, 10, 11, 50])
def test_az_07_a_marked_deny_is_inherited_at_any_depth(depth: int) -> None:
    chain = tuple((f"r{n}", f"r{n + 1}") for n in range(depth))
    rules = rules_of(permit("r0"), permit(f"r{depth}", effect="deny", inherited=True), inheritance=chain)
    assert ask(rules, Grant("r0")) == "denied"
    unmarked = rules_of(permit("r0"), permit(f"r{depth}", effect="deny"), inheritance=chain)
    assert ask(unmarked, Grant("r0")) == "permitted"


@pytest.mark.parametrize("resource_id", ["app/../admin", "app/%2e%2e/x%2fy", "a//b", "a/", "", " a", "a\n", "a\\b"])
def test_az_05_an_id_that_is_not_canonical_is_denied(resource_id: str) -> None:
    assert ask(rules_of(permit("r")), Grant("r"), resource_id=resource_id) in {"resource_invalid", "no_permission"}


def test_a_limit_holds_in_its_currency_only() -> None:
    rules = rules_of(permit("r"))
    limited = Grant("r", limit=Amount.parse({"value": "5000.00", "currency": "CNY"}))
    cases = {"5000.00 CNY": "permitted", "5000.01 CNY": "limit", "1.00 USD": "currency"}
    for text, reason in cases.items():
        value, currency = text.split()
        properties = {"amount": Amount.parse({"value": value, "currency": currency})}
        assert ask(rules, limited, properties=properties) == reason
    assert ask(rules, limited) == "limit_missing"


def test_tuples_never_merge() -> None:
    rules = rules_of(permit("r"))
    high_elsewhere = Grant("r", Scope("c2"), Amount(10**9, "CNY"))
    low_here = Grant("r", Scope("c1"), Amount(10**4, "CNY"))
    properties = {"company": "c1", "amount": Amount(10**6, "CNY")}
    assert ask(rules, high_elsewhere, low_here, properties=properties) == "limit"


def test_a_scope_covers_units_below_it() -> None:
    org = {"team": ("team", "dept"), "dept": ("dept",)}
    rules = rules_of(permit("r"))
    assert ask(rules, Grant("r", Scope(org_unit="dept")), org=org, properties={"org_unit": "team"}) == "permitted"
    assert ask(rules, Grant("r", Scope(org_unit="team")), org=org, properties={"org_unit": "dept"}) == "scope"
    assert ask(rules, Grant("r", Scope(org_unit="dept")), org=org) == "scope_missing"


def test_az_13_validity_ends_at_the_second() -> None:
    rules = rules_of(permit("r"))
    assert ask(rules, Grant("r", valid_until=NOW)) == "expired"
    assert ask(rules, Grant("r", valid_until=NOW + timedelta(microseconds=1))) == "permitted"


def test_a_condition_that_fails_never_permits_and_a_failing_deny_denies() -> None:
    broken = "resource.properties.nothing == 1"
    assert ask(rules_of(permit("r", condition=broken)), Grant("r")) == "condition"
    rules = rules_of(permit("r"), permit("r", effect="deny", condition=broken))
    assert ask(rules, Grant("r")) == "denied"


def test_money_in_another_currency_is_an_error_of_the_condition() -> None:
    rules = rules_of(permit("r", condition='resource.properties.amount <= money("10.00", "CNY")'))
    assert ask(rules, Grant("r"), properties={"amount": Amount(1, "CNY")}) == "permitted"
    assert ask(rules, Grant("r"), properties={"amount": Amount(1, "USD")}) == "condition"


def test_object_duty_compares_persons_and_asks_for_evidence() -> None:
    duty = ObjectDuty("d", "app", "t", ("make", "do"))
    rules = rules_of(permit("r"), object_duties=(duty,))
    assert ask(rules, Grant("r")) == "sod_evidence_missing"
    assert ask(rules, Grant("r"), acts=(Act("other", "make"),)) == "permitted"
    assert ask(rules, Grant("r"), acts=(Act("p", "make"),)) == "sod_object"


def test_static_duty_counts_inherited_roles_where_scopes_meet() -> None:
    rules = RuleSet(1, inheritance=(("boss", "a"),), static_duties=(StaticDuty("s", ("a", "b"), 2, "company"),))
    assert static_conflicts(rules, [Grant("boss", Scope("c1")), Grant("b", Scope("c1"))])
    assert not static_conflicts(rules, [Grant("boss", Scope("c1")), Grant("b", Scope("c2"))])


def test_a_rule_set_with_a_circle_or_a_bad_pattern_is_refused() -> None:
    rules = rules_of(permit("r", "a*/b"), inheritance=(("r", "q"), ("q", "r")))
    problems = " ".join(validate(rules, {"r", "q"}))
    assert "circle" in problems
    assert "inside a segment" in problems


@pytest.mark.parametrize("bad", [1.5, "1.00001", "1e3", "", "9" * 30])
def test_an_amount_is_never_a_float(bad: Any) -> None:
    with pytest.raises(ValueError, match="amount"):
        Amount.parse({"value": bad, "currency": "CNY"})
