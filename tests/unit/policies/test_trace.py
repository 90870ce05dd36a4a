"""An explanation tells the engine's own story: its ways end where the decision ends, in every random world."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import Action, DynamicDuty, Engine, Grant, ObjectDuty, Permission, Request, Resource, RuleSet, trace
from policies.held import RANK
from policies.separation import object_block
from tests.unit.policies.test_equivalence import NOW, ORG, PATTERNS, grants, hierarchies, permissions, requests_of


def told(engine: Engine, request: Request) -> str:
    """The reason that follows from the ways alone."""
    ways = trace(engine, request)
    if any(one.permission.effect == "deny" and not one.code for one in ways):
        return "denied"
    permits = [one for one in ways if one.permission.effect == "permit"]
    if any(not one.code for one in permits):
        resource = request.resource
        blocked = object_block(engine.object_duties(resource.application, resource.type, request.action.name), request)
        return blocked[0] if blocked else "permitted"
    return max((one.code for one in permits), key=lambda code: RANK[code], default="no_permission")


def test_the_ways_lead_to_the_decision_and_to_its_reason() -> None:
    seen: set[str] = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        rules = RuleSet(
            1,
            data.draw(permissions(patterns=PATTERNS, plain=False)),
            data.draw(hierarchies()),
            dynamic_duties=data.draw(st.sampled_from([(), (), (DynamicDuty("dyn", ("app:r1", "app:r2"), 2),)])),
            object_duties=data.draw(st.sampled_from([(), (), (ObjectDuty("obj", "app", "t", ("make", "do", "pay")),)])),
        )
        engine = Engine(rules, ORG)
        subject = engine.subject("u", "p0", grants=data.draw(st.lists(grants(), min_size=1, max_size=4)))
        for request in requests_of(data, subject):
            decision = engine.evaluate(request)
            assert told(engine, request) == decision.reason, request
            if decision.permit:
                whole = [one.permission.id for one in trace(engine, request) if not one.code]
                assert decision.rules[0] in whole
            seen.add(decision.reason)

    wanted = {"permitted", "denied", "no_permission", "expired", "scope", "scope_missing", "condition"}
    for _ in range(20):
        compare()
        if seen >= wanted:  # some are rare in one round
            return
    assert seen >= wanted


def test_a_way_names_every_role_between_and_everything_that_fails() -> None:
    edges = (("app:boss", "app:lead"), ("app:lead", "app:clerk"), ("app:boss", "app:side"))
    rule = Permission("p", "app:clerk", "app", "t", "**", "do", condition='context.channel == "web"')
    engine = Engine(RuleSet(1, (rule,), edges), ORG)
    [way] = trace(engine, asked(engine, Grant("app:boss", valid_until=NOW)))
    assert way.roles == ("app:boss", "app:lead", "app:clerk")
    assert [one.name for one in way.checks if one.code] == ["validity", "condition"]
    assert way.code == "expired"
    [nobody] = trace(engine, asked(engine, Grant("app:side")))
    assert nobody.grant is None
    assert nobody.code == "no_permission"


def asked(engine: Engine, held: Grant) -> Request:
    subject = engine.subject("u", "p0", grants=[held])
    return Request(subject, Action("do"), Resource("app", "t", "a"), {"channel": "api"}, NOW)
