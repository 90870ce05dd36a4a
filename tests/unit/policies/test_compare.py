"""What a comparison of two rule sets lists, and that it lists everybody whose answer is another one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import Amount, Engine, Grant, Permission, Right, RuleSet, Scope, Terms, compare
from tests.unit.policies.test_equivalence import (
    NOW,
    ORG,
    PATTERNS,
    TICK,
    grants,
    hierarchies,
    permissions,
    requests_of,
)


def permission(role: str, action: str, **parts: Any) -> Permission:
    return Permission(f"{role} {action}", role, "app", "claim", "**", action, **parts)


def found(before: RuleSet, after: RuleSet, *held: Grant, then: tuple[Grant, ...] | None = None) -> set[tuple[str, str]]:
    """(role's key or right's action, change) of one subject."""
    old, new = Engine(before, ORG), Engine(after, ORG)
    pair = old.subject("u", "p", grants=held), new.subject("u", "p", grants=held if then is None else then)
    changes = compare(old, new, [pair], NOW)
    return {(one.what.action if isinstance(one.what, Right) else one.what, one.kind) for one in changes}


def test_a_role_and_what_it_carries_are_gained_through_the_hierarchy() -> None:
    plain = (permission("app:junior", "read"), permission("app:senior", "approve"))
    before, after = RuleSet(1, plain), RuleSet(2, plain, (("app:senior", "app:junior"),))
    assert found(before, after, Grant("app:senior")) == {("app:junior", "gains"), ("read", "gains")}
    assert found(after, before, Grant("app:senior")) == {("app:junior", "loses"), ("read", "loses")}
    assert found(before, after, Grant("app:junior")) == set()


def test_a_permission_that_another_role_gives_as_well_is_not_lost() -> None:
    both = (permission("app:a", "read"), permission("app:b", "read"))
    assert found(RuleSet(1, both), RuleSet(2, both[1:]), Grant("app:a"), Grant("app:b")) == set()
    assert found(RuleSet(1, both), RuleSet(2, both[1:]), Grant("app:a")) == {("read", "loses")}


def test_a_permission_that_moves_to_a_narrower_role_is_held_in_other_bounds() -> None:
    before, after = RuleSet(1, (permission("app:a", "read"),)), RuleSet(2, (permission("app:b", "read"),))
    assert found(before, after, Grant("app:a"), Grant("app:b", Scope("c1"))) == {("read", "changes")}


def test_other_bounds_of_a_grant_are_shown_with_before_and_after() -> None:
    rules = RuleSet(1, (permission("app:a", "read"),))
    engine = Engine(rules, ORG)
    high, low = Grant("app:a", limit=Amount(2, "CNY")), Grant("app:a", limit=Amount(1, "CNY"))
    pair = engine.subject("u", "p", grants=[high]), engine.subject("u", "p", grants=[low])
    [role, right] = compare(engine, engine, [pair], NOW)
    assert (role.what, role.kind) == ("app:a", "changes")
    assert role.before == (Terms(Scope(), Amount(2, "CNY"), None, None),)
    assert role.after == right.after == (Terms(Scope(), Amount(1, "CNY"), None, None),)


def test_a_deny_reaches_senior_roles_only_where_it_is_inherited() -> None:
    edges = (("app:senior", "app:junior"),)
    for inherited, expected in ((True, {("read", "gains")}), (False, set())):
        after = RuleSet(2, (permission("app:junior", "read", effect="deny", inherited=inherited),), edges)
        assert found(RuleSet(1, (), edges), after, Grant("app:senior")) == expected


def test_what_is_to_begin_counts_and_what_is_over_does_not() -> None:
    soon, over = NOW + timedelta(days=9), NOW - TICK
    before = RuleSet(1)
    assert found(before, RuleSet(2, (permission("app:a", "read", valid_from=soon),)), Grant("app:a")) == {
        ("read", "gains")
    }
    assert found(before, RuleSet(2, (permission("app:a", "read", valid_until=over),)), Grant("app:a")) == set()
    assert found(before, before, Grant("app:a", valid_until=NOW), then=()) == set()
    # That it began yesterday or last year makes no difference.
    early = Grant("app:a", valid_from=NOW - timedelta(days=9))
    assert found(before, before, early, then=(Grant("app:a"),)) == set()


def test_who_is_not_active_holds_nothing() -> None:
    engine = Engine(RuleSet(1, (permission("app:a", "read"),)), ORG)
    held = [Grant("app:a")]
    active = engine.subject("u", "p", grants=held)
    for gone in (
        None,
        engine.subject("u", "p", "disabled", grants=held),
        engine.subject("u", "p", grants=held, valid_until=NOW),
    ):
        assert [one.kind for one in compare(engine, engine, [(active, gone)], NOW)] == ["loses", "loses"]


@dataclass
class Count:
    comparisons: int = 0
    flips: int = 0


def test_everybody_whose_answer_is_another_one_is_listed() -> None:
    count = Count()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def listed(data: st.DataObject) -> None:
        made = data.draw(permissions(patterns=PATTERNS, plain=False))
        edges = data.draw(hierarchies())
        kept = tuple(one for one in made if data.draw(st.integers(0, 3)))
        further = tuple(data.draw(st.sets(st.sampled_from(edges)))) if edges else ()
        old = Engine(RuleSet(1, made, edges), ORG)
        new = Engine(RuleSet(2, kept, further), ORG)
        for number in range(3):
            held = data.draw(st.lists(grants(), min_size=1, max_size=4))
            then = data.draw(st.sampled_from([held, held[1:], held]))
            before, after = old.subject(f"u{number}", "p", grants=held), new.subject(f"u{number}", "p", grants=then)
            changes = list(compare(old, new, [(before, after)], NOW))
            for one in requests_of(data, before):
                count.comparisons += 1
                if old.evaluate(one).permit != new.evaluate(one._replace(subject=after)).permit:
                    count.flips += 1
                    assert changes, (made, kept, edges, further, held, then, one)

    listed()
    assert count.comparisons >= 10_000
    assert count.flips > 200
