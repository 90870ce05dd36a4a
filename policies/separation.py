"""Separation of duty (NIST RBAC2): static over grants, dynamic over a session, and by object over acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from policies.hierarchy import closure, juniors
from policies.types import (
    Activation,
    DynamicDuty,
    Grant,
    ObjectDuty,
    Request,
    RuleSet,
    Scope,
)


class Conflict(NamedTuple):
    """These grants together break a static rule."""

    rule: str
    roles: tuple[str, ...]
    grants: tuple[Grant, ...]


def static_conflicts(rules: RuleSet, grants: Sequence[Grant]) -> list[Conflict]:
    """Every static rule that one person's grants break: `n` or more of its roles, inherited ones counted, with
    overlapping scope and validity."""
    below = juniors(rules.inheritance)
    carried = [(grant, closure(grant.role, below)) for grant in grants]
    found = []
    for duty in rules.static_duties:
        holders = {role: [grant for grant, roles in carried if role in roles] for role in duty.roles}
        held = [role for role in duty.roles if holders[role]]
        for roles in combinations(held, duty.n):
            together = _overlapping([holders[role] for role in roles], duty.scope)
            if together:
                found.append(Conflict(duty.id, roles, together))
                break
    return found


def _overlapping(choices: Sequence[Sequence[Grant]], scope: str) -> tuple[Grant, ...]:
    """One grant of each list such that all overlap pairwise, or nothing."""

    def extend(chosen: tuple[Grant, ...], rest: Sequence[Sequence[Grant]]) -> tuple[Grant, ...]:
        if not rest:
            return chosen
        for grant in rest[0]:
            if all(_overlap(grant, other, scope) for other in chosen):
                found = extend((*chosen, grant), rest[1:])
                if found:
                    return found
        return ()

    return extend((), choices)


def _overlap(one: Grant, other: Grant, scope: str) -> bool:
    if one.valid_until and other.valid_from and other.valid_from >= one.valid_until:
        return False
    if other.valid_until and one.valid_from and one.valid_from >= other.valid_until:
        return False
    return scope == "any" or _scopes_meet(one.scope, other.scope, scope)


def _scopes_meet(one: Scope, other: Scope, scope: str) -> bool:
    """Whether both can hold in the same company (or unit); an unrestricted scope meets every other."""
    if one.company and other.company and one.company != other.company:
        return False
    return scope == "company" or not (one.org_unit and other.org_unit and one.org_unit != other.org_unit)


def object_block(duties: Iterable[ObjectDuty], request: Request) -> tuple[str, str] | None:
    """(reason, rule) when the person acted in another duty of this object, or nothing is known of an earlier one.

    `request.acts` are the acts that we know and those that the application states.
    """
    person, action = request.subject.person, request.action.name
    acts = set(request.acts)
    for duty in duties:
        if any((person, one) in acts for one in duty.actions if one != action):
            return "sod_object", duty.id
        position = duty.actions.index(action)
        earlier = set(duty.actions[:position])
        if position and not any(act.action in earlier for act in acts):
            return "sod_evidence_missing", duty.id
    return None


def dynamic_block(
    duties: Iterable[DynamicDuty],
    wanted: Iterable[tuple[str, str]],
    activations: Iterable[Activation],
) -> str | None:
    """The rule that performing with the wanted roles would break in this session, or None."""
    active: dict[str, set[str]] = {}
    for rule, role in activations:
        active.setdefault(rule, set()).add(role)
    asked: dict[str, set[str]] = {}
    for rule, role in wanted:
        asked.setdefault(rule, set()).add(role)
    for duty in duties:
        roles = asked.get(duty.id)
        if roles and active.get(duty.id) and len(active[duty.id] | roles) >= duty.n:
            return duty.id
    return None
