"""From facts to grants: the pure builder of what a user holds, with every derivation kept.

Direct assignments are taken as they are; mapping rows derive further memberships from groups, positions, units and
business roles. A row narrows and never widens; a matching excluding row removes every mapped membership of its role;
administration roles never come out of a mapping (foundations §4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from policies import ANYWHERE, Amount, Grant, Scope

CONSOLE_APPLICATION = "tessera"
BUSINESS = "business"
OWN = "@own"


@dataclass(frozen=True, slots=True)
class EmploymentFact:
    """An employment of the identity, with codes."""

    id: str
    company: str
    org_unit: str | None
    org_units: tuple[str, ...]
    """The unit and all units above it."""
    position: str | None
    primary: bool
    valid_from: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class UserFacts:
    """What is known of one identity."""

    id: UUID
    person_id: UUID
    groups: tuple[str, ...]
    """Direct groups, by name."""
    employments: tuple[EmploymentFact, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssignmentFact:
    """An assignment to a user, group, position or unit; the holder by id, name or code."""

    id: str
    role: str
    scope: Scope
    limit: Amount | None
    valid_from: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class MappingRule:
    """A mapping row; `source` is a group's name, a position's or unit's code, or a business role's key."""

    id: str
    source_kind: str
    source: str
    role: str
    exclude: bool = False
    condition: Callable[[Mapping[str, Any]], bool] | None = None
    transform: str = "inherit"
    scope: Scope = ANYWHERE
    limit: Amount | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MappingWorld:
    """Everything that the builder reads beside the user: indexed, immutable, built once per policy version."""

    mappings: Mapping[tuple[str, str], tuple[MappingRule, ...]]
    """(source kind, source) → rows."""
    assignments: Mapping[tuple[str, str], tuple[AssignmentFact, ...]]
    """(holder kind, holder) → assignments; holder is the user's id, a group's name, a position's or unit's code."""
    group_parents: Mapping[str, tuple[str, ...]]
    """Group → the groups that it is directly in."""
    held_gains: frozenset[tuple[UUID, str, str]] = frozenset()
    """(person, role, cause) that are left out until somebody decides."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One grant and how it came about: steps from its source (a group, position, assignment …) to the role."""

    grant: Grant
    steps: tuple[str, ...]
    mapped: bool


def group_paths(direct: Iterable[str], parents: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Every group that the user is in, nested ones too, each with the shortest path to it; ends on cycles."""
    paths: dict[str, tuple[str, ...]] = {name: (name,) for name in direct}
    queue = list(paths)
    for name in queue:
        for parent in parents.get(name, ()):
            if parent not in paths:
                paths[parent] = (*paths[name], parent)
                queue.append(parent)
    return paths


def derive(user: UserFacts, world: MappingWorld) -> tuple[Derivation, ...]:
    """Every membership of this identity, direct and mapped.

    Excluding rows may stand on business roles that other rows derive, so the pass is repeated until no further
    role is excluded; the set only grows, so this ends, and never with more than before.
    """
    excluded: frozenset[str] = frozenset()
    while True:
        found, now_excluded = _derive_once(user, world, excluded)
        if now_excluded <= excluded:
            return tuple(one for one in found if _stays(one, user, world))
        excluded |= now_excluded


def _derive_once(
    user: UserFacts, world: MappingWorld, excluded: frozenset[str]
) -> tuple[list[Derivation], frozenset[str]]:
    sources = _sources(user, world)
    found = [one for key, holder in sources.items() for one in _assigned(key, holder, world)]
    seen: set[tuple[Any, ...]] = {_identity(one) for one in found}
    hits: set[str] = set()

    def follow(key: tuple[str, str], holder: _Holder) -> None:
        for one in _mapped(key, holder, user, world, hits):
            if one.grant.role not in excluded and _identity(one) not in seen:
                seen.add(_identity(one))
                found.append(one)

    for key, holder in sources.items():
        follow(key, holder)
    for one in found:
        # `found` grows while business roles lead to further roles; `seen` ends it on circles.
        if one.grant.role.startswith(f"{BUSINESS}:"):
            grant = one.grant
            holder = _Holder(
                one.steps,
                grant.scope,
                grant.limit,
                grant.valid_from,
                grant.valid_until,
                None,
            )
            follow(("business_role", grant.role), holder)
    return found, frozenset(hits)


@dataclass(frozen=True, slots=True)
class _Holder:
    """What a mapping row or an assignment starts from."""

    steps: tuple[str, ...]
    scope: Scope
    limit: Amount | None
    valid_from: datetime | None
    valid_until: datetime | None
    employment: EmploymentFact | None


def _sources(user: UserFacts, world: MappingWorld) -> dict[tuple[str, str], _Holder]:
    primary = next((one for one in user.employments if one.primary), None)
    sources: dict[tuple[str, str], _Holder] = {
        ("user", str(user.id)): _Holder((), ANYWHERE, None, None, None, primary),
    }
    for name, path in group_paths(user.groups, world.group_parents).items():
        steps = tuple(f"group:{one}" for one in path)
        sources["group", name] = _Holder(steps, ANYWHERE, None, None, None, primary)
    for job in user.employments:
        bound = Scope(job.company, None, None)
        if job.position:
            steps = (f"position:{job.position}",)
            sources["position", job.position] = _Holder(steps, bound, None, job.valid_from, job.valid_until, job)
        for code in job.org_units:
            steps = (f"unit:{code}",)
            sources["unit", code] = _Holder(steps, bound, None, job.valid_from, job.valid_until, job)
    return sources


def _assigned(key: tuple[str, str], holder: _Holder, world: MappingWorld) -> Iterable[Derivation]:
    for fact in world.assignments.get(key, ()):
        scope = intersect(holder.scope, fact.scope)
        if scope is None:
            continue
        since, until = _overlap(holder.valid_from, holder.valid_until, fact.valid_from, fact.valid_until)
        grant = Grant(fact.role, scope, fact.limit, since, until, f"assignment:{fact.id}")
        yield Derivation(
            grant,
            (*holder.steps, f"assignment:{fact.id}", f"role:{fact.role}"),
            mapped=False,
        )


def _mapped(
    key: tuple[str, str],
    holder: _Holder,
    user: UserFacts,
    world: MappingWorld,
    excluded: set[str],
) -> Iterable[Derivation]:
    for row in world.mappings.get(key, ()):
        if row.role.startswith(f"{CONSOLE_APPLICATION}:"):
            continue
        if row.condition is not None and not row.condition(user.attributes):
            continue
        if row.exclude:
            excluded.add(row.role)
            continue
        scope, limit = _transform(row, holder, user)
        if scope is None or isinstance(limit, str):
            continue
        since, until = _overlap(holder.valid_from, holder.valid_until, row.valid_from, row.valid_until)
        grant = Grant(row.role, scope, limit, since, until, f"mapping:{row.id}")
        yield Derivation(grant, (*holder.steps, f"mapping:{row.id}", f"role:{row.role}"), mapped=True)


def _transform(row: MappingRule, holder: _Holder, user: UserFacts) -> tuple[Scope | None, Amount | str | None]:
    """The membership's scope (None = nothing is left) and limit ("none" = amounts that cannot be compared)."""
    job = holder.employment or next((one for one in user.employments if one.primary), None)
    wanted = row.scope if row.transform != "inherit" else ANYWHERE
    if OWN in (wanted.company, wanted.org_unit):
        if job is None:
            return None, None
        company = job.company if wanted.company == OWN else wanted.company
        org_unit = job.org_unit if wanted.org_unit == OWN else wanted.org_unit
        if wanted.org_unit == OWN and org_unit is None:
            return None, None
        wanted = Scope(company, org_unit, wanted.business_type)
    return intersect(holder.scope, wanted), smaller(holder.limit, row.limit)


def intersect(one: Scope, other: Scope) -> Scope | None:
    """The scope that lies in both, or None; two different units have nothing in common here (fail closed)."""
    parts: list[str | None] = []
    for a, b in zip(_parts(one), _parts(other), strict=True):
        if a is not None and b is not None and a != b:
            return None
        parts.append(a if a is not None else b)
    return Scope(*parts)


def smaller(one: Amount | None, other: Amount | None) -> Amount | str | None:
    """The smaller of two limits; "none" when their currencies differ, so that nothing is granted."""
    if one is None or other is None:
        return one or other
    if one.currency != other.currency:
        return "none"
    return one if one.value <= other.value else other


def _parts(scope: Scope) -> tuple[str | None, str | None, str | None]:
    return scope.company, scope.org_unit, scope.business_type


def _overlap(
    from_a: datetime | None,
    until_a: datetime | None,
    from_b: datetime | None,
    until_b: datetime | None,
) -> tuple[datetime | None, datetime | None]:
    since = max((one for one in (from_a, from_b) if one), default=None)
    until = min((one for one in (until_a, until_b) if one), default=None)
    return since, until


def _identity(one: Derivation) -> tuple[Any, ...]:
    grant = one.grant
    limit = (grant.limit.value, grant.limit.currency) if grant.limit else None
    return (
        grant.role,
        _parts(grant.scope),
        limit,
        grant.valid_from,
        grant.valid_until,
        grant.cause,
    )


def _stays(one: Derivation, user: UserFacts, world: MappingWorld) -> bool:
    return (user.person_id, one.grant.role, one.grant.cause) not in world.held_gains
