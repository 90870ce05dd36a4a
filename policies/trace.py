"""Why: every way from what a subject holds to the rules that concern a request, and where each way ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

from policies.engine import Engine
from policies.held import Held, check_limit, check_scope, is_valid
from policies.index import Rule
from policies.types import Grant, Permission, Request

CheckName = Literal["validity", "rule_validity", "scope", "limit", "condition", "duty"]


class Check(NamedTuple):
    """One thing that a way must satisfy; `code` is empty when it does, else the reason why not."""

    name: CheckName
    code: str


class Way(NamedTuple):
    """A rule that concerns the request, and the tuple through which the subject reaches it.

    `grant` is None when no tuple of the subject reaches it; `roles` lead from the tuple's role down to the rule's.
    """

    permission: Permission
    grant: Grant | None
    roles: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def code(self) -> str:
        """Empty when the way leads to the end, else why it does not: the reason that the engine names."""
        if self.grant is None:
            return "no_permission"
        return next((one.code for one in self.checks if one.code), "")


def trace(engine: Engine, request: Request) -> tuple[Way, ...]:
    """Every way, in the order of the engine; the subject is one that this engine made ready.

    A deny whose way has no code denies. A permit whose way has none permits, unless something denies or a duty by
    object forbids it. The subject's own state and validity are not looked at.
    """
    found: list[Way] = []
    for group in engine.groups(request):
        for rule in (*group.denies, *group.permitting()):
            subject = request.subject
            reaching = [one for one in zip(subject.held, subject.grants, strict=True) if _reaches(one[0], rule)]
            found += [_way(engine, request, rule, *one) for one in reaching] or [Way(rule.permission, None, (), ())]
    return tuple(found)


def _reaches(held: Held, rule: Rule) -> bool:
    """A deny that is not marked inherited stays with its own role."""
    permission = rule.permission
    bits = held.bit if permission.effect == "deny" and not permission.inherited else held.mask
    return bool(bits & rule.bit)


def _way(engine: Engine, request: Request, rule: Rule, held: Held, grant: Grant) -> Way:
    permission, now, properties = rule.permission, request.now, request.resource.properties
    denies = permission.effect == "deny"
    scope = check_scope(held.scope, properties, engine.org)
    checks = [
        Check("rule_validity", "" if is_valid(permission.valid_from, permission.valid_until, now) else "expired"),
        Check("validity", "" if is_valid(held.since, held.until, now) else "expired"),
        # What is not stated counts as stated for a deny, so that leaving something out never helps.
        Check("scope", "" if denies and scope == "scope_missing" else scope),
    ]
    if not denies:
        checks.append(Check("limit", check_limit(held.limit, properties)))
    if rule.condition is not None:
        met = engine.condition_holds(request, rule.condition, on_error=denies)
        checks.append(Check("condition", "" if met else "condition"))
    if not denies and isinstance(engine.activated(request, held, rule), str):
        checks.append(Check("duty", "sod_dynamic"))
    return Way(permission, grant, role_path(engine.below, grant.role, permission.role), tuple(checks))


def role_path(below: Mapping[str, set[str]], senior: str, junior: str) -> tuple[str, ...]:
    """The shortest path of inheritance from a role down to another, both included; empty where there is none."""
    before: dict[str, str] = {senior: ""}
    queue = deque([senior])
    while queue and junior not in before:
        role = queue.popleft()
        for below_it in sorted(below.get(role, ())):
            if below_it not in before:
                before[below_it] = role
                queue.append(below_it)
    if junior not in before:
        return ()
    path = [junior]
    while before[path[-1]]:
        path.append(before[path[-1]])
    return tuple(reversed(path))
