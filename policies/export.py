"""What may be decided outside the decision point: a copy of the rules may only be stricter than the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from policies.conditions import compile_condition
from policies.hierarchy import closure, juniors
from policies.types import Grant, Permission, RuleSet

# Why a copy cannot answer: a duty needs the acts of all, a limit and an obligation the decision point's own word, and
# what a condition reads of a person is released by attribute, not with the rules.
DUTY, LIMIT, OBLIGATION, CONDITION = "duty", "limit", "obligation", "condition"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ExportSubject:
    """Somebody as the application knows him, who may act: his grants in whatever application, until `valid_until`."""

    id: str
    grants: tuple[Grant, ...]
    valid_until: datetime | None = None


def permissions_of(rules: RuleSet, application: str) -> tuple[Permission, ...]:
    """The permissions of one application, in the rules' order."""
    return tuple(one for one in rules.permissions if one.application == application)


def own_rules(rules: RuleSet, application: str) -> RuleSet:
    """The rules as far as they concern one application's permissions: its hierarchy and its duties."""
    own = permissions_of(rules, application)
    relevant = carriers(rules, own)
    return replace(
        rules,
        permissions=own,
        inheritance=tuple(edge for edge in rules.inheritance if relevant.issuperset(edge)),
        static_duties=(),
        dynamic_duties=tuple(duty for duty in rules.dynamic_duties if not relevant.isdisjoint(duty.roles)),
        object_duties=tuple(duty for duty in rules.object_duties if duty.application == application),
    )


def ask(rules: RuleSet, application: str, grants: Iterable[Grant]) -> dict[Key, tuple[str, ...]]:
    """(type, action) → why it must be asked at the decision point, for everything that no copy may decide.

    `grants` are those of everybody who may act: a limit of any of them concerns the actions that it reaches.
    """
    below = juniors(rules.inheritance)
    limited = _reached((grant.role for grant in grants if grant.limit is not None), below)
    separated = _reached((role for duty in rules.dynamic_duties for role in duty.roles), below)
    found: dict[Key, set[str]] = {}
    for duty in rules.object_duties:
        if duty.application == application:
            for action in duty.actions:
                found.setdefault((duty.resource_type, action), set()).add(DUTY)
    for one in permissions_of(rules, application):
        why = set()
        if one.effect == "permit":
            why |= {DUTY} if one.role in separated else set()
            why |= {LIMIT} if one.role in limited else set()
            why |= {OBLIGATION} if one.obligations else set()
        if one.condition is not None and "subject" in compile_condition(one.condition).reads:
            why.add(CONDITION)
        if why:
            found.setdefault((one.resource_type, one.action), set()).update(why)
    return {key: tuple(sorted(why)) for key, why in sorted(found.items())}


def carriers(rules: RuleSet, permissions: Iterable[Permission]) -> frozenset[str]:
    """The roles that have one of these permissions, by themselves or through a role below them."""
    above: dict[str, set[str]] = {}
    for senior, junior in rules.inheritance:
        above.setdefault(junior, set()).add(senior)
    return frozenset(_reached((one.role for one in permissions), above))


def is_restricted(grant: Grant) -> bool:
    """Whether the grant holds only somewhere, up to an amount or for a time."""
    return any(grant.scope) or grant.limit is not None or grant.valid_from is not None or grant.valid_until is not None


def _reached(roles: Iterable[str], edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    for role in set(roles):
        found |= closure(role, edges)
    return found
