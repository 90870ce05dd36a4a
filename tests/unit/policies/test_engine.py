"""The rules of a decision one by one."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policies import (
    Act,
    Action,
    Activation,
    Amount,
    Carrier,
    DynamicDuty,
    Engine,
    Grant,
    ObjectDuty,
    Permission,
    Request,
    Resource,
    RuleSet,
    Scope,
    Side,
    StaticDuty,
    compile_condition,
    static_conflicts,
    validate,
)
from policies.conditions import ConditionError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rules_of(*permissions: Permission, **parts: Any) -> RuleSet:
    return RuleSet(version=1, permissions=permissions, **parts)


def permit(role: str, pattern: str = "**", **parts: Any) -> Permission:
    return Permission(f"{role}-{pattern}-{parts.get('effect', 'permit')}", role, "app", "t", pattern, "do", **parts)


def ask(rules: RuleSet, *grants: Grant, resource_id: str = "a", org: Any = None, **parts: Any) -> str:
    engine = Engine(rules, org or {})
    subject = engine.subject("s", "p", grants=grants)
    resource = Resource("app", "t", resource_id, parts.pop("properties", {}))
    return engine.evaluate(Request(subject, Action("do"), resource, parts.pop("context", {}), NOW, **parts)).reason


@pytest.mark.parametrize("depth", [1, 9, 10, 11, 50])
def test_az_07_a_marked_deny_is_inherited_at_any_depth(depth: int) -> None:
    chain = tuple((f"r{n}", f"r{n + 1}") for n in range(depth))
    rules = rules_of(permit("r0"), permit(f"r{depth}", effect="deny", inherited=True), inheritance=chain)
    assert ask(rules, Grant("r0")) == "denied"
    unmarked = rules_of(permit("r0"), permit(f"r{depth}", effect="deny"), inheritance=chain)
    assert ask(unmarked, Grant("r0")) == "permitted"


@pytest.mark.parametrize(
    "resource_id",
    [
        *("app/../admin", "app/./admin", "..", "a//b", "/a", "a/", "a\\b", "a\n", "a\x00", "a?b", "a#b"),
        *("app/%2e%2e/x", "x%2fy", "x%252fy", "admin.", "admin./x", "a /b", "a/ b"),
        *("admin／x", "admin．", "a…b", "adm\u200bin", "\u202enimda", "e\u0301"),
    ],
)
def test_az_05_an_id_that_two_systems_read_differently_is_denied(resource_id: str) -> None:
    assert ask(rules_of(permit("r")), Grant("r"), resource_id=resource_id) == "resource_invalid"
    assert ask(rules_of(permit("r", "a")), Grant("r"), resource_id=resource_id) == "resource_invalid"
    assert ask(rules_of(permit("r", "*/*")), Grant("r"), resource_id=resource_id) == "resource_invalid"


@pytest.mark.parametrize("resource_id", ["报销单/2026-01", "v1.2", "é", "a b", "a:b@c", "x" * 1_024])
def test_ids_of_any_script_are_canonical(resource_id: str) -> None:
    assert ask(rules_of(permit("r")), Grant("r"), resource_id=resource_id) == "permitted"


@pytest.mark.parametrize("resource_id", ["", " ", "\t", "\u3000", "x" * 1_025])
def test_az_06_empty_and_blank_ids_are_denied_and_so_is_everything_by_an_empty_policy(resource_id: str) -> None:
    assert ask(rules_of(permit("r")), Grant("r"), resource_id=resource_id) == "resource_invalid"
    assert ask(rules_of(), Grant("r"), resource_id=resource_id) == "no_permission"
    assert ask(rules_of(), resource_id=resource_id) == "no_permission"
    assert ask(rules_of(permit("r"))) == "no_permission"


@pytest.mark.case("AZ-09")
@pytest.mark.parametrize("name", ["application", "resource_type", "action"])
@pytest.mark.parametrize("value", ["*", "**", "a*", "", " t"])
def test_no_rule_is_for_every_application_type_or_action(name: str, value: str) -> None:
    assert validate(rules_of(replace(permit("r"), **{name: value})), {"r"})


def test_az_10_a_wildcard_stays_in_its_application_type_and_action() -> None:
    engine = Engine(rules_of(permit("r")))
    subject = engine.subject("s", "p", grants=[Grant("r")])
    for application, kind, action in (("other", "t", "do"), ("app", "u", "do"), ("app", "t", "undo"), ("*", "*", "*")):
        decision = engine.evaluate(Request(subject, Action(action), Resource(application, kind, "a"), {}, NOW))
        assert decision.reason == "no_permission"


def test_az_08_a_circle_of_roles_is_refused_and_gives_nobody_anything() -> None:
    circle = (("a", "b"), ("b", "c"), ("c", "a"))
    assert "circle" in " ".join(validate(rules_of(inheritance=circle), {"a", "b", "c"}))
    assert ask(rules_of(permit("d"), inheritance=circle), Grant("a")) == "no_permission"


def test_az_16_while_rules_are_swapped_every_answer_is_the_old_or_the_new_one() -> None:
    def holder(rules: RuleSet) -> tuple[Engine, Any]:
        engine = Engine(rules)
        return engine, engine.subject("s", "p", grants=[Grant("r")])

    many = [permit("q", f"x/{n}") for n in range(300)]
    # Neither set permits "x/1"; both together would permit it (permit of one, deny of the other left out).
    old = rules_of(*many, permit("r", "x/*"), permit("r", "x/1", effect="deny"))
    new = rules_of(*many, permit("r", "y"))
    current = [holder(old)]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            current[0] = holder(new)
            current[0] = holder(old)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        reasons = set()
        for _ in range(20_000):
            engine, subject = current[0]
            asked = Request(subject, Action("do"), Resource("app", "t", "x/1"), {}, NOW)
            reasons.add(engine.evaluate(asked).reason)
    finally:
        stop.set()
        swapping.join()
    assert reasons <= {"denied", "no_permission"}


@pytest.mark.case("AZ-20")
def test_no_answer_is_kept_for_another_question() -> None:
    rules = rules_of(permit("r", condition='context.acr == "mfa"'))
    engine = Engine(rules)
    subject = engine.subject("s", "p", grants=[Grant("r", Scope("c1"))])

    def asked(acr: str, company: str) -> bool:
        resource = Resource("app", "t", "a", {"company": company})
        return engine.evaluate(Request(subject, Action("do"), resource, {"acr": acr}, NOW)).permit

    assert [asked("mfa", "c1"), asked("pwd", "c1"), asked("mfa", "c2"), asked("mfa", "c1")] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.case("AZ-23")
@pytest.mark.parametrize(
    "source",
    [
        '__import__("os").system("id")',
        "subject.__class__.__mro__",
        "open('/etc/passwd')",
        "2 ** 1000 > 0",
        "'a'.matches('(a{1000}){1000}{1000}')",
        "9223372036854775807 + 1 > 0",
        "'x'",
        "resource.properties.amount > 5",
        "resource.properties.amount <= money('5', 'USD')",
        "size(context.list) > 0",
    ],
)
def test_a_condition_reaches_nothing_outside_and_an_error_never_permits(source: str) -> None:
    properties = {"amount": Amount(1, "CNY")}
    try:
        rules = rules_of(permit("r", condition=source))
        denying = rules_of(permit("r"), permit("r", effect="deny", condition=source))
        answers = [
            ask(rules, Grant("r"), properties=properties, context={"list": [0] * 1_001}),
            ask(denying, Grant("r"), properties=properties, context={"list": [0] * 1_001}),
        ]
    except ConditionError:
        assert validate(rules_of(permit("r", condition=source)), {"r"})
    else:
        assert answers == ["condition", "denied"]


@pytest.mark.case("AZ-23")
@pytest.mark.parametrize(
    "source",
    [
        "[1].all(a, [1].all(b, true))",
        "[1].existsOne(a, [1].exists(b, true))",
        "[1]. filter (a, [1]\n.map(b, b) == [1]) == [1]",
        "[1].all(a, // )\n [1].all(b, true))",
        r'r"\" == "" || [1].all(a, [1].all(b, true)) || "" == ""',
        '"""a " b""" == "" || [1].all(a, [1].all(b, true))',
        "true " + " " * 1_024,
        "(" * 300 + "true" + ")" * 300,
    ],
)
def test_a_condition_is_bounded(source: str) -> None:
    with pytest.raises(ConditionError):
        compile_condition(source)


def test_one_comprehension_behind_another_is_not_nested() -> None:
    condition = compile_condition('[1, 2].filter(a, a > 1).all(b, b == 2) && ".all(" != "x.all(y, z.all("')
    assert condition.holds({})


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
    duty = ObjectDuty("d", "app", "t", ("make", "do", "pay"))
    rules = rules_of(permit("r"), object_duties=(duty,))
    assert ask(rules, Grant("r")) == "sod_evidence_missing"
    assert ask(rules, Grant("r"), acts=(Act("other", "pay"),)) == "sod_evidence_missing"
    assert ask(rules, Grant("r"), acts=(Act("other", "make"),)) == "permitted"
    assert ask(rules, Grant("r"), acts=(Act("p", "make"),)) == "sod_object"
    assert ask(rules, Grant("r"), acts=(Act("other", "make"), Act("p", "pay"))) == "sod_object"
    assert ask(rules, Grant("r"), acts=(Act("other", "make"), Act("p", "do"))) == "permitted"


def test_a_stand_in_acts_for_two_persons() -> None:
    duty = ObjectDuty("d", "app", "t", ("make", "do"))
    rules = rules_of(permit("r"), object_duties=(duty,))
    assert ask(rules, Grant("r"), acts=(Act("boss", "make"),), stands_for="boss") == "sod_object"
    assert ask(rules, Grant("r"), acts=(Act("p", "make"),), stands_for="boss") == "sod_object"
    assert ask(rules, Grant("r"), acts=(Act("other", "make"),), stands_for="boss") == "permitted"


@pytest.mark.case("AZ-12")
def test_a_dynamic_duty_blocks_the_other_role_and_takes_a_free_way_where_there_is_one() -> None:
    duty = DynamicDuty("d", ("a", "b"), 2)
    rules = rules_of(permit("a"), inheritance=(("b", "c"),), dynamic_duties=(duty,))
    assert ask(rules, Grant("a")) == "permitted"
    assert ask(rules, Grant("a"), activations=(Activation("d", "a"),)) == "permitted"
    assert ask(rules, Grant("a"), activations=(Activation("d", "b"),)) == "sod_dynamic"
    assert ask(rules, Grant("a"), activations=(Activation("other", "b"),)) == "permitted"
    shared = rules_of(permit("c"), inheritance=(("a", "c"), ("b", "c")), dynamic_duties=(duty,))
    assert ask(shared, Grant("a"), Grant("b"), activations=(Activation("d", "b"),)) == "permitted"
    assert ask(shared, Grant("a"), activations=(Activation("d", "b"),)) == "sod_dynamic"
    assert ask(shared, Grant("a"), Grant("c"), activations=(Activation("d", "b"),)) == "permitted"


def test_a_deny_holds_where_the_request_does_not_say_enough() -> None:
    rules = rules_of(permit("q"), permit("r", effect="deny"))
    held = Grant("q"), Grant("r", Scope("c1", "d1"))
    org = {"d1": ("d1", "c1"), "d2": ("d2", "c1")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "denied"),
        ({"company": "c1"}, "denied"),
        ({"company": ["c2"], "org_unit": "d1"}, "denied"),
        ({"company": "c1", "org_unit": "nobody-knows"}, "denied"),
        ({"company": "c2"}, "permitted"),
        ({"company": "c1", "org_unit": "d2"}, "permitted"),
    ]
    for properties, reason in cases:
        assert ask(rules, *held, org=org, properties=properties) == reason, properties


@pytest.mark.case("AZ-11")
def test_static_duty_counts_inherited_roles_where_scopes_and_times_meet() -> None:
    rules = RuleSet(1, inheritance=(("boss", "a"),), static_duties=(StaticDuty("s", ("a", "b"), 2, "company"),))
    org = {"d1": ("d1", "c1"), "t1": ("t1", "d1", "c1"), "d2": ("d2", "c2")}

    def broken(one: Grant, other: Grant, rules: RuleSet = rules) -> bool:
        return bool(static_conflicts(rules, [one, other], org))

    assert broken(Grant("boss", Scope("c1")), Grant("b", Scope("c1")))
    assert not broken(Grant("boss", Scope("c1")), Grant("b", Scope("c2")))
    assert not broken(Grant("a", Scope(None, "d2")), Grant("b", Scope("c1")))
    assert broken(Grant("a", Scope(None, "d2")), Grant("b", Scope("c2")))
    assert not broken(Grant("a", valid_until=NOW), Grant("b", valid_from=NOW))
    assert broken(Grant("a", Scope("c1", "d1")), Grant("b", Scope("c1", "t1")))
    by_unit = replace(rules, static_duties=(StaticDuty("s", ("a", "b"), 2, "unit"),))
    assert broken(Grant("a", Scope("c1", "d1")), Grant("b", Scope("c1", "t1")), by_unit)
    assert not broken(Grant("a", Scope("c1", "d1")), Grant("b", Scope("c1", "c2")), by_unit)
    alone = replace(rules, inheritance=(("boss", "a"), ("boss", "b")))
    assert static_conflicts(alone, [Grant("boss")], org), "one role that inherits both"


@pytest.mark.case("AZ-11")
def test_static_duty_between_actions_of_two_applications() -> None:
    duty = StaticDuty(
        "s", (), 2, "any", (Side(permissions=(Carrier("app", "t", "do"),)), Side((), (Carrier("erp", "bill", "pay"),)))
    )
    pay = Permission("pay", "erp:cashier", "erp", "bill", "**", "pay")
    rules = RuleSet(1, (permit("app:r"), pay), static_duties=(duty,))
    [conflict] = static_conflicts(rules, [Grant("app:r"), Grant("erp:cashier")])
    assert conflict.duties == ("app:t:do", "erp:bill:pay")
    assert not static_conflicts(rules, [Grant("app:r"), Grant("app:r")])


def test_a_rule_set_with_a_circle_or_a_bad_pattern_is_refused() -> None:
    rules = rules_of(permit("r", "a*/b"), inheritance=(("r", "q"), ("q", "r")))
    problems = " ".join(validate(rules, {"r", "q"}))
    assert "circle" in problems
    assert "inside a segment" in problems


@pytest.mark.parametrize("bad", [1.5, "1.00001", "1e3", "", "9" * 30])
def test_an_amount_is_never_a_float(bad: Any) -> None:
    with pytest.raises(ValueError, match="amount"):
        Amount.parse({"value": bad, "currency": "CNY"})
