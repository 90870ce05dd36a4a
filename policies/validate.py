"""A rule set is checked before it may be stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from policies.conditions import ConditionError, compile_condition
from policies.hierarchy import cycle
from policies.patterns import problem
from policies.types import Permission, RuleSet


def validate(rules: RuleSet, known_roles: Collection[str]) -> list[str]:
    """Every problem as a sentence; empty when the rule set may be stored."""
    found: list[str] = []
    found += [one for permission in rules.permissions for one in _permission(permission, known_roles)]
    ids = [permission.id for permission in rules.permissions]
    found += [f"permission {one} stands twice" for one, times in Counter(ids).items() if times > 1]
    for edge in rules.inheritance:
        found += [f"unknown role {role} in the hierarchy" for role in edge if role not in known_roles]
    circle = cycle(rules.inheritance)
    if circle:
        found.append("roles inherit in a circle: " + " → ".join(circle))
    for duty in rules.static_duties:
        found += _role_set(duty.id, duty.roles, duty.n, known_roles, len(duty.sides))
        named = tuple(role for side in duty.sides for role in side.roles)
        found += [f"unknown role {role} in duty rule {duty.id}" for role in named if role not in known_roles]
        if any(not side.roles and not side.permissions for side in duty.sides):
            found.append(f"duty rule {duty.id} has an empty side")
    for dynamic in rules.dynamic_duties:
        found += _role_set(dynamic.id, dynamic.roles, dynamic.n, known_roles)
    for static in rules.static_duties:
        if static.scope not in {"company", "unit", "any"}:
            found.append(f"duty rule {static.id} has an unknown scope {static.scope}")
    for rule in rules.object_duties:
        if len(rule.actions) < 2 or len(set(rule.actions)) != len(rule.actions):
            found.append(f"duty rule {rule.id} needs two or more different actions")
    return found


def _role_set(rule_id: str, roles: tuple[str, ...], n: int, known_roles: Collection[str], sides: int = 0) -> list[str]:
    found = [f"unknown role {role} in duty rule {rule_id}" for role in roles if role not in known_roles]
    if not 2 <= n <= len(set(roles)) + sides:
        found.append(f"duty rule {rule_id} needs 2 ≤ n ≤ the number of what it separates")
    return found


def _permission(permission: Permission, known_roles: Collection[str]) -> list[str]:
    found = []
    if permission.role not in known_roles:
        found.append(f"unknown role {permission.role}")
    wrong = problem(permission.pattern)
    if wrong:
        found.append(f"pattern {permission.pattern!r} {wrong}")
    for name in ("application", "resource_type", "action"):
        value = getattr(permission, name)
        if not value or value != value.strip() or "*" in value:
            found.append(f"permission {permission.id} has a bad {name} {value!r}")
    if permission.condition is not None:
        try:
            compile_condition(permission.condition)
        except ConditionError as error:
            found.append(f"condition of {permission.id}: {error}")
    return found
