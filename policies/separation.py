"""Separation of duty (NIST RBAC2): static over grants, dynamic over a session, and by object over acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    Side,
)


class Conflict(NamedTuple):
    """These grants together break a static rule; `duties` are those of its sides that meet, as text."""

    rule: str
    duties: tuple[str, ...]
    grants: tuple[Grant, ...]


class StaticDuties:
    """The static rules of one rule set, made ready: which roles carry which side of which rule."""

    def __init__(self, rules: RuleSet, org: Mapping[str, Iterable[str]] | None = None) -> None:
        self._org = {code: frozenset(above) for code, above in (org or {}).items()}
        self._below = juniors(rules.inheritance)
        carriers: dict[tuple[str, str, str], set[str]] = {
            one: set() for duty in rules.static_duties for side in duty.sides for one in side.permissions
        }
        for permission in rules.permissions:
            key = (permission.application, permission.resource_type, permission.action)
            if key in carriers and permission.effect == "permit":
                carriers[key].add(permission.role)
        self._rules = [
            (
                duty,
                [
                    (str(side), frozenset(side.roles).union(*(carriers[one] for one in side.permissions)))
                    for side in (*(Side((role,)) for role in duty.roles), *duty.sides)
                ],
            )
            for duty in rules.static_duties
        ]
        self._roles = frozenset(role for _, sides in self._rules for _, roles in sides for role in roles)

    def is_about(self, role: str) -> bool:
        """Whether the role, or one that it inherits, is a side of a rule: nobody breaks one without such a role."""
        return bool(closure(role, self._below) & self._roles)

    def conflicts(self, grants: Sequence[Grant]) -> list[Conflict]:
        """Every rule that one person's grants break, inherited roles counted; one conflict a rule."""
        carried = [(grant, roles) for grant in grants if (roles := closure(grant.role, self._below) & self._roles)]
        found = []
        for duty, sides in self._rules if carried else ():
            holders = {name: [grant for grant, roles in carried if roles & side] for name, side in sides}
            held = [name for name, _ in sides if holders[name]]
            for names in combinations(held, duty.n):
                together = self._overlapping([holders[name] for name in names], duty.scope)
                if together:
                    found.append(Conflict(duty.id, names, together))
                    break
        return found

    def _overlapping(self, choices: Sequence[Sequence[Grant]], scope: str) -> tuple[Grant, ...]:
        """One grant of each list such that all overlap pairwise, or nothing."""

        def extend(chosen: tuple[Grant, ...], rest: Sequence[Sequence[Grant]]) -> tuple[Grant, ...]:
            if not rest:
                return chosen
            for grant in rest[0]:
                if all(self._overlap(grant, other, scope) for other in chosen):
                    found = extend((*chosen, grant), rest[1:])
                    if found:
                        return found
            return ()

        return extend((), choices)

    def _overlap(self, one: Grant, other: Grant, scope: str) -> bool:
        if one.valid_until and other.valid_from and other.valid_from >= one.valid_until:
            return False
        if other.valid_until and one.valid_from and one.valid_from >= other.valid_until:
            return False
        return scope == "any" or self._scopes_meet(one.scope, other.scope, scope)

    def _scopes_meet(self, one: Scope, other: Scope, scope: str) -> bool:
        """Whether both can hold in the same company (or unit); what is not restricted meets everything.

        A company is the root of its units, so a scope's unit says its company as well.
        """
        if one.company and other.company and one.company != other.company:
            return False
        for a, b in ((one, other), (other, one)):
            known = self._org.get(a.org_unit or "")
            if b.company and known and not a.company and b.company not in known:
                return False
        if scope == "company" or not one.org_unit or not other.org_unit:
            return True
        return one.org_unit in self._org.get(other.org_unit, (other.org_unit,)) or (
            other.org_unit in self._org.get(one.org_unit, (one.org_unit,))
        )


def static_conflicts(
    rules: RuleSet, grants: Sequence[Grant], org: Mapping[str, Iterable[str]] | None = None
) -> list[Conflict]:
    """Every static rule that one person's grants break; `StaticDuties` does the same for many persons."""
    return StaticDuties(rules, org).conflicts(grants)


def object_block(duties: Iterable[ObjectDuty], request: Request) -> tuple[str, str] | None:
    """(reason, rule) when a person acted in another duty of this object, or nothing is known of an earlier one.

    `request.acts` are the acts that we know and those that the application states. A stand-in acts for two persons:
    neither may have acted in another duty.
    """
    persons, action = request.persons, request.action.name
    for duty in duties:
        others = [act for act in request.acts if act.action != action and act.action in duty.actions]
        if any(act.person in persons for act in others):
            return "sod_object", duty.id
        earlier = duty.actions[: duty.actions.index(action)]
        if earlier and not any(act.action in earlier for act in others):
            return "sod_evidence_missing", duty.id
    return None


def activates(
    duties: Iterable[DynamicDuty],
    roles: frozenset[str],
    activations: Iterable[Activation],
) -> tuple[Activation, ...] | str:
    """What performing with these roles newly activates, or the rule that it would break.

    `roles` are those of one grant through which the permission is reached. Of a set's roles that all reach it, one
    that is in use already is taken first, so that nothing more is activated than must be.
    """
    found = []
    for duty in duties:
        reaching = [role for role in duty.roles if role in roles]
        active = {role for rule, role in activations if rule == duty.id}
        if not reaching or not active.isdisjoint(reaching):
            continue
        if len(active) + 1 >= duty.n:
            return duty.id
        found.append(Activation(duty.id, reaching[0]))
    return tuple(found)
