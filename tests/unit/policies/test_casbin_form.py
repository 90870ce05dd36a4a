"""Real Casbin as the second oracle: the same answers on what it can express, never looser on the rest."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import Action, Engine, Grant, Permission, Request, Resource, RuleSet, Scope
from policies.casbin_form import casbin_form, enforcer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = [f"app:r{n}" for n in range(14)]
IDS = ["a", "b", "c"]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_casbin_agrees_on_what_it_can_express_and_never_permits_more(data: st.DataObject) -> None:
    chain = data.draw(st.booleans())
    edges = (
        {(n, n + 1) for n in range(13)}
        if chain
        else data.draw(
            st.sets(st.tuples(st.integers(0, 13), st.integers(0, 13)).filter(lambda e: e[0] < e[1]), max_size=12)
        )
    )
    restricted = data.draw(st.booleans())
    permission = st.builds(
        Permission,
        id=st.uuids().map(str),
        role=st.sampled_from(ROLES),
        application=st.just("app"),
        resource_type=st.just("t"),
        pattern=st.sampled_from([*IDS, "**", "*"] if restricted else [*IDS, "**"]),
        action=st.just("do"),
        effect=st.sampled_from(["permit", "permit", "deny"]),
        inherited=st.booleans(),
        condition=st.sampled_from([None, None, "true"]) if restricted else st.none(),
    )
    inheritance = tuple((ROLES[a], ROLES[b]) for a, b in sorted(edges))
    rules = RuleSet(1, tuple(data.draw(st.lists(permission, max_size=10))), inheritance)
    scopes = st.sampled_from([Scope(), Scope("c1")]) if restricted else st.just(Scope())
    grant = st.builds(Grant, role=st.sampled_from(ROLES), scope=scopes)
    people = {f"u{n}": data.draw(st.lists(grant, max_size=3)) for n in range(3)}
    engine, casbin = Engine(rules), enforcer(casbin_form(rules, people.items()))
    for name, grants in people.items():
        subject = engine.subject(name, name, grants=grants)
        for resource_id in IDS:
            resource = Resource("app", "t", resource_id, {"company": "c1"})
            ours = engine.evaluate(Request(subject, Action("do"), resource, {}, NOW)).permit
            theirs = casbin.enforce(name, "app", "t", resource_id, "do")
            assert ours or not theirs, "Casbin's form is looser"
            assert restricted or ours == theirs
