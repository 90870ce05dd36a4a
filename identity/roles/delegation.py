"""Hierarchical administration (分级授权, after ARBAC97): what an AdminGrant covers. Pure.

Granting is not holding: who may grant a role need not have it, and who has it may not grant it for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from identity.roles.mapping import BUSINESS, CONSOLE_APPLICATION, MappingWorld
from policies import ANYWHERE, Amount, Scope

POWERS = ("assign", "revoke")

# The reason of a refusal is that of the grant that came furthest.
_RANK = {
    code: rank
    for rank, code in enumerate(
        ("no_admin_grant", "grant_power", "grant_role", "grant_scope", "grant_target", "grant_limit", "grant_duration")
    )
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """An AdminGrant: within them its holder may grant. A role is a key or `application:*`; None = unbounded."""

    id: str
    powers: frozenset[str]
    roles: tuple[str, ...]
    scope: Scope = ANYWHERE
    limit: Amount | None = None
    max_days: int | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def holds_at(self, now: datetime) -> bool:
        return (self.valid_from is None or self.valid_from <= now) and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to grant: powers (of an AdminGrant) or one of them (on an assignment), roles with all that
    comes with them, and within which bounds. `target` are the units of whom it is for, with all units above them;
    None where that cannot be said (a group, a position)."""

    powers: frozenset[str]
    roles: tuple[str, ...]
    scope: Scope = ANYWHERE
    limit: Amount | None = None
    days: int | None = None
    target: frozenset[str] | None = None


EVERYTHING = Bounds("built-in:security-admin", frozenset(POWERS), ("*",))
"""The security administrator's: all application roles."""


def refusal(bounds: Iterable[Bounds], wanted: Wanted, org: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """("", the id of an AdminGrant that covers it) or (the reason why none does, "")."""
    best = "no_admin_grant"
    for one in bounds:
        code = _refusal(one, wanted, org)
        if not code:
            return "", one.id
        if _RANK[code] > _RANK[best]:
            best = code
    return best, ""


def _refusal(bounds: Bounds, wanted: Wanted, org: Mapping[str, Sequence[str]]) -> str:
    if not wanted.powers <= bounds.powers:
        return "grant_power"
    if not wanted.roles or not all(_names(bounds.roles, role) for role in wanted.roles):
        return "grant_role"
    if not inside(wanted.scope, bounds.scope, org):
        return "grant_scope"
    places = {one for one in (bounds.scope.company, bounds.scope.org_unit) if one is not None}
    if places and (wanted.target is None or not places <= wanted.target):
        return "grant_target"
    limit = bounds.limit
    if limit is not None and (
        wanted.limit is None or wanted.limit.currency != limit.currency or wanted.limit.value > limit.value
    ):
        return "grant_limit"
    if bounds.max_days is not None and (wanted.days is None or wanted.days > bounds.max_days):
        return "grant_duration"
    return ""


def _names(patterns: Iterable[str], role: str) -> bool:
    """Whether a role (or a pattern of roles) is among these; administration roles never are."""
    prefix = role.partition(":")[0]
    return prefix != CONSOLE_APPLICATION and any(one in {role, "*", f"{prefix}:*"} for one in patterns)


def inside(scope: Scope, bound: Scope, org: Mapping[str, Sequence[str]]) -> bool:
    """Whether a scope lies wholly within another; a unit lies within its company and the units above it."""
    above = org.get(scope.org_unit, (scope.org_unit,)) if scope.org_unit is not None else ()
    if (
        bound.company is not None
        and scope.company != bound.company
        and (scope.company is not None or bound.company not in above)
    ):
        return False
    if bound.org_unit is not None and bound.org_unit not in above:
        return False
    return bound.business_type is None or scope.business_type == bound.business_type


def comes_with(role: str, juniors: Iterable[str], world: MappingWorld) -> tuple[str, ...]:
    """A role with all that whoever gets it has: inherited roles, and what mapping rows make of a business role."""
    found: dict[str, None] = dict.fromkeys((role, *juniors))
    queue = list(found)
    for one in queue:
        if one.startswith(f"{BUSINESS}:"):
            for row in world.mappings.get(("business_role", one), ()):
                if not row.exclude and row.role not in found:
                    found[row.role] = None
                    queue.append(row.role)
    return tuple(found)
