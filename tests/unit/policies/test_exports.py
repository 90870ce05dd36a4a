"""Whatever form an application takes its policy in, it permits nothing that the decision point would deny.

The bundle is read by `policies` itself, Casbin's form by a real Enforcer, Shiro's by its documented comparison written
anew here (org.apache.shiro.authz.permission.WildcardPermission, case-sensitive).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import Action, Amount, DynamicDuty, Engine, Grant, ObjectDuty, Permission, Request, Resource, RuleSet
from policies.bundle import Bundle, BundleError, pack, unpack
from policies.casbin_form import casbin_form, enforcer
from policies.export import ExportSubject, own_rules
from policies.shiro_form import shiro_form, shiro_id
from tests.unit.policies.test_equivalence import (
    ACTIVATIONS,
    ACTS,
    CONTEXTS,
    IDS,
    NOW,
    ORG,
    PATTERNS,
    ROLES,
    SAID,
    TICK,
    grants,
    hierarchies,
    permissions,
)

ASKED = [*IDS, "ab/..", "a//b", "", "a\n", "a:b", "a,b", "A", "合同/一", "*", "x" * 1_024, "x" * 1_025]
NAMES = ["u0", "u1", "u2", "u3", "app:r3", "subject", "nobody"]
OF_SUBJECT = [
    'subject.id == "u1"',
    'subject.properties.company == "c1"',
    'context.channel == "web" && subject.id != ""',
]


@dataclass
class Count:
    asked: int = 0
    permitted: int = 0
    ours: int = 0


@st.composite
def worlds(draw: st.DrawFn) -> tuple[RuleSet, list[ExportSubject]]:
    """Rules of two applications with whatever a copy cannot express, and four people in one of them."""
    made = []
    simple = draw(st.booleans())
    patterns = [*IDS, "**", "**"] if simple else PATTERNS
    for one in draw(permissions(patterns=patterns, plain=simple)):
        more: dict[str, Any] = {}
        if draw(st.integers(0, 19)) == 0:
            more["condition"] = draw(st.sampled_from(OF_SUBJECT))
        if draw(st.integers(0, 19)) == 0:
            more["obligations"] = ({"id": "watermark"},)
        if draw(st.integers(0, 3)) == 0:
            more["action"] = "undo"
        if draw(st.integers(0, 9)) == 0:
            more["application"] = "other"
        made.append(replace(one, **more))
    rules = RuleSet(
        1,
        tuple(made),
        draw(hierarchies()),
        dynamic_duties=draw(st.sampled_from([(), (), (), (), (), (DynamicDuty("dyn", ("app:r1", "app:r2"), 2),)])),
        object_duties=draw(st.sampled_from([(), (), (), (), (), (ObjectDuty("obj", "app", "t", ("make", "do")),)])),
    )
    free = st.builds(Grant, st.sampled_from(ROLES))
    bound = grants()
    if draw(st.integers(0, 3)):
        bound = bound.map(lambda one: replace(one, limit=None))
    held = st.lists(free if simple else st.one_of(free, free, bound), min_size=1, max_size=3)
    until = st.sampled_from([None] if simple else [None, None, NOW, NOW + TICK])
    return rules, [ExportSubject(name, tuple(draw(held)), draw(until)) for name in NAMES[:-2]]


def ours(rules: RuleSet, people: list[ExportSubject], name: str, request: Request) -> bool:
    known = {one.id: one for one in people}
    if name not in known:
        return False
    engine = Engine(rules, ORG)
    one = known[name]
    subject = engine.subject(name, name, grants=one.grants, valid_until=one.valid_until, properties={"company": "c1"})
    return engine.evaluate(request._replace(subject=subject)).permit


def question(turn: int, action: str, resource_id: str) -> Request:
    nobody = Engine(RuleSet(1)).subject("", "")
    resource = Resource("app", "t", resource_id, SAID[turn % len(SAID)])
    return Request(
        nobody,
        Action(action),
        resource,
        CONTEXTS[turn % 3],
        NOW,
        acts=ACTS[turn % 3],
        activations=ACTIVATIONS[(turn // 3) % 3],
    )


def bundle_of(rules: RuleSet, people: list[ExportSubject], **times: int) -> Bundle:
    """Packed, sent as JSON, and unpacked."""
    at = int(NOW.timestamp())
    head = {"iss": "https://id.example", "aud": "app", "digest": "d", "iat": at, "exp": at + 59, **times}
    versions = {"policy_version": 1, "facts_revision": 7}
    return unpack(orjson.loads(orjson.dumps({**pack(rules, "app", people, ORG), **head, **versions})))


def wire(properties: Any) -> dict[str, Any]:
    amount = properties.get("amount")
    if not isinstance(amount, Amount):
        return dict(properties)
    return {**properties, "amount": dict(zip(("value", "currency"), str(amount).split(), strict=True))}


def check(asks: Any, *, least: float) -> None:
    count = Count()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(worlds(), st.integers(0, 11))
    def compare(world: tuple[RuleSet, list[ExportSubject]], turn: int) -> None:
        rules, people = world
        ask = asks(rules, people)
        for name in NAMES:
            for number, resource_id in enumerate(ASKED):
                for action in ("do", "undo") if number < 4 else ("do",):
                    turn += 1
                    request = question(turn, action, resource_id)
                    theirs, final = ask(name, request)
                    permit = ours(rules, people, name, request)
                    assert permit or not theirs, ("looser", name, action, resource_id, rules, people)
                    assert theirs == permit or not final, (
                        "a no that is none",
                        name,
                        action,
                        resource_id,
                        rules,
                        people,
                    )
                    count.asked += 1
                    count.permitted += theirs
                    count.ours += permit

    compare()
    assert count.asked >= 15_000
    assert count.permitted >= count.ours * least, count


def test_a_bundle_permits_nothing_else_and_says_what_it_cannot_tell() -> None:
    def asks(rules: RuleSet, people: list[ExportSubject]) -> Any:
        bundle = bundle_of(rules, people)
        unsure = {"ask_pdp", "request_invalid"}

        def ask(name: str, request: Request) -> tuple[bool, bool]:
            resource = request.resource
            decision = bundle.decide(
                name,
                request.action,
                resource.type,
                resource.id,
                NOW,
                properties=wire(resource.properties),
                context=request.context,
            )
            # A malformed id is an error at the door, not a question.
            return decision.permit, decision.reason not in unsure or not resource.id.strip()

        return ask

    check(asks, least=0.1)


def test_casbins_form_permits_nothing_else_and_says_what_it_cannot_tell() -> None:
    def asks(rules: RuleSet, people: list[ExportSubject]) -> Any:
        lasting = [one for one in people if one.valid_until is None]
        form = casbin_form(own_rules(rules, "app"), [(one.id, one.grants) for one in lasting])
        casbin = enforcer(form)
        unsure = {*form.ask_subjects, *(one.id for one in people if one.valid_until is not None)}

        def ask(name: str, request: Request) -> tuple[bool, bool]:
            resource = request.resource
            key = ("app", resource.type, request.action.name)
            plain = shiro_id(resource.id) or resource.id in {"a:b", "a,b"}
            final = key not in form.ask and name not in unsure and plain
            return bool(casbin.enforce(name, "app", resource.type, resource.id, request.action.name)), final

        return ask

    check(asks, least=0.1)


def implies(permission: str, asked: str) -> bool:
    """WildcardPermission.implies: part by part; what the permission does not say any more is implied, what the
    question does not say must be a wildcard."""

    def parts(text: str) -> list[set[str]]:
        split = text.strip().split(":")
        while split and not split[-1]:
            split.pop()  # as String.split does
        return [set(part.split(",")) for part in split]

    mine, theirs = parts(permission), parts(asked)
    for number, part in enumerate(theirs):
        if number >= len(mine):
            return True
        if "*" not in mine[number] and not part <= mine[number]:
            return False
    return all("*" in part for part in mine[len(theirs) :])


@pytest.mark.parametrize(
    ("permission", "asked", "expected"),
    [
        ("claim:read:*", "claim:read:1", True),
        ("claim:read:*", "claim:read", True),
        ("claim:read:1", "claim:read", False),
        ("claim:read", "claim:read:1", True),
        ("claim:read,edit:1", "claim:edit:1", True),
        ("claim:read:1", "claim:read,edit:1", False),
        ("claim:read:1", "claim:read:*", False),
        ("*", "claim:read", True),
    ],
)
def test_the_comparison_is_shiros(permission: str, asked: str, expected: bool) -> None:
    assert implies(permission, asked) is expected


def test_shiros_form_permits_nothing_else_and_says_what_it_cannot_tell() -> None:
    def asks(rules: RuleSet, people: list[ExportSubject]) -> Any:
        form = shiro_form(rules, "app", people)

        def ask(name: str, request: Request) -> tuple[bool, bool]:
            kind, action, resource_id = request.resource.type, request.action.name, request.resource.id
            if not shiro_id(resource_id):
                return False, False
            strings = {text for role in form.users.get(name, ()) for text in form.roles[role]}
            permit = any(implies(one, f"{kind}:{action}:{resource_id}") for one in strings)
            return permit, (kind, action) not in form.ask and name not in form.ask_subjects

        return ask

    check(asks, least=0.03)


RULES = RuleSet(1, (Permission("p", "app:r", "app", "t", "**", "do"),))
WHO = [ExportSubject("u", (Grant("app:r"),))]


def test_an_expired_or_early_bundle_denies_and_a_renewal_prolongs_its_own_only() -> None:
    bundle = bundle_of(RULES, WHO)

    def ask(one: Bundle, seconds: float) -> str:
        return one.decide("u", Action("do"), "t", "a", NOW + timedelta(seconds=seconds)).reason

    assert [ask(bundle, at) for at in (-3, -1, 0, 58.9, 59, 3_600)] == [
        *("bundle_expired", "permitted", "permitted", "permitted", "bundle_expired", "bundle_expired")
    ]
    at = int(NOW.timestamp()) + 40
    renewal = {"iss": "https://id.example", "aud": "app", "digest": "d", "iat": at, "exp": at + 59}
    renewal["facts_revision"] = 8
    assert ask(bundle.renewed(renewal), 98) == "permitted"
    for wrong in (
        {"aud": "oa"},
        {"digest": "e"},
        {"iss": "https://evil.example"},
        {"exp": at + 61},
        {"facts_revision": 6},
    ):
        with pytest.raises(BundleError):
            bundle.renewed({**renewal, **wrong})


@pytest.mark.parametrize("times", [{"exp": int(NOW.timestamp()) + 61}, {"exp": int(NOW.timestamp())}])
def test_a_bundle_lives_no_longer_than_a_minute(times: dict[str, int]) -> None:
    with pytest.raises(BundleError):
        bundle_of(RULES, WHO, **times)


def test_a_stand_in_and_a_malformed_question_are_not_decided_here() -> None:
    bundle = bundle_of(RULES, WHO)
    for context in ({"on_behalf_of": "u2"}, {"acr": 1}, {"sid": ["s"]}, {"intent": "try"}):
        assert not bundle.decide("u", Action("do"), "t", "a", NOW, context=context).permit
    for properties in ({"amount": 1.5}, {"amount": {"value": "1e3", "currency": "CNY"}}):
        assert bundle.decide("u", Action("do"), "t", "a", NOW, properties=properties).reason == "request_invalid"
    assert bundle.decide("u", Action("do"), "t", "a ", NOW).reason == "request_invalid"


@pytest.mark.parametrize(
    "broken",
    [
        {"format": "tessera-bundle/2"},
        {"permissions": [{}]},
        {"subjects": [["u", None, [5]]]},
        {"grants": None},
        {"iat": 1.5},
    ],
)
def test_what_is_no_whole_bundle_is_refused(broken: dict[str, Any]) -> None:
    at = int(NOW.timestamp())
    head = {
        "iss": "i",
        "aud": "app",
        "digest": "d",
        "iat": at,
        "exp": at + 59,
        "policy_version": 1,
        "facts_revision": 1,
    }
    whole = {**pack(RULES, "app", WHO, ORG), **head}
    unpack(whole)
    with pytest.raises(BundleError):
        unpack({**whole, **broken})


def test_a_bundle_holds_nothing_of_other_applications_and_of_people_without_a_right() -> None:
    rules = RuleSet(
        1,
        (
            *RULES.permissions,
            Permission("q", "oa:r", "oa", "t", "**", "do"),
            Permission("x", "business:b", "oa", "t", "**", "x"),
        ),
        (("business:b", "app:r"), ("business:b", "oa:r")),
    )
    people = [
        ExportSubject("u", (Grant("business:b"), Grant("oa:r"))),
        ExportSubject("v", (Grant("oa:r"),)),
    ]
    content = pack(rules, "app", people, ORG)
    assert [row[0] for row in content["subjects"]] == ["u"]
    assert [row[0] for row in content["grants"]] == ["business:b"]
    assert b"oa:r" not in orjson.dumps(content)
    assert content["org"] == [], "no grant needs a unit"
