"""From facts to grants: the pure builder of what a user holds, with every derivation kept.

Direct assignments are taken as they are; mapping rows derive further memberships from groups, positions, units and
business roles. A row narrows and never widens; a matching excluding row removes every mapped membership of its role;
administration roles never come out of a mapping (foundations §4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from policies import ANYWHERE, Amount, Grant, Scope

CONSOLE_APPLICATION = "tessera"
BUSINESS = "business"
OWN = "@own"

_Time = tuple[datetime | None, datetime | None]
_Excluded = dict[str, frozenset[_Time]]


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
    """Whether the row matches these attributes; it raises nothing."""
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
    held_gains: Mapping[UUID, frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Person → the (role, cause) that are left out until somebody decides."""
    org: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Each unit's code with the codes of itself and all units above it."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One grant and how it came about: steps from its source (a group, position, assignment …) to the role."""

    grant: Grant
    steps: tuple[str, ...]
    mapped: bool


@cache
def _step(kind: str, name: str) -> str:
    """The same text object for everybody: a company's users hold the same few steps."""
    return f"{kind}:{name}"


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

    Excluding rows may stand on business roles that other rows derive, so the pass is repeated until nothing further
    is excluded; the set only grows, so this ends, and never with more than before.
    """
    excluded: _Excluded = {}
    while True:
        found, hits = _derive_once(user, world, excluded)
        further = {role: times - excluded.get(role, frozenset()) for role, times in hits.items()}
        if not any(further.values()):
            return tuple(found)
        for role, times in further.items():
            excluded[role] = excluded.get(role, frozenset()) | times


def _derive_once(user: UserFacts, world: MappingWorld, excluded: _Excluded) -> tuple[list[Derivation], _Excluded]:
    sources = sources_of(user, world, named_only=True)
    held = world.held_gains.get(user.person_id, frozenset())
    found = [
        one
        for key, holder in sources
        for one in _assigned(key, holder, world)
        if (one.grant.role, one.grant.cause) not in held
    ]
    seen = {one.grant for one in found}
    hits: _Excluded = {}

    def follow(key: tuple[str, str], holder: Holder) -> None:
        for one in _mapped(key, holder, user, world, hits):
            if (one.grant.role, one.grant.cause) in held:
                continue
            for left in _without(one, excluded.get(one.grant.role, frozenset())):
                if left.grant not in seen:
                    seen.add(left.grant)
                    found.append(left)

    for key, holder in sources:
        follow(key, holder)
    for one in found:
        # `found` grows while business roles lead to further roles; `seen` ends it on circles.
        if one.grant.role.startswith(f"{BUSINESS}:"):
            grant = one.grant
            holder = Holder(one.steps, grant.scope, grant.limit, grant.valid_from, grant.valid_until, None)
            follow(("business_role", grant.role), holder)
    return found, hits


def _without(one: Derivation, times: Iterable[_Time]) -> list[Derivation]:
    """What is left of a membership outside these times."""
    left = [one]
    for since, until in times:
        pieces = []
        for piece in left:
            grant = piece.grant
            before = _overlap(grant.valid_from, grant.valid_until, None, since)
            after = _overlap(grant.valid_from, grant.valid_until, until, None)
            if since is not None:
                pieces.append(before)
            if until is not None:
                pieces.append(after)
        left = [
            replace(one, grant=replace(one.grant, valid_from=a, valid_until=b))
            for a, b in dict.fromkeys(pieces)
            if a is None or b is None or a < b
        ]
    return left


@dataclass(frozen=True, slots=True)
class Holder:
    """What a mapping row or an assignment starts from."""

    steps: tuple[str, ...]
    scope: Scope
    limit: Amount | None
    valid_from: datetime | None
    valid_until: datetime | None
    employment: EmploymentFact | None


def sources_of(
    user: UserFacts, world: MappingWorld, *, named_only: bool = False
) -> list[tuple[tuple[str, str], Holder]]:
    """What assignments and mapping rows may name (`named_only` = do name), each with its holder; a unit or position
    stands once for every employment in it, so that each brings the scope of its own company."""

    def counts(key: tuple[str, str]) -> bool:
        return not named_only or key in world.mappings or key in world.assignments

    primary = next((one for one in user.employments if one.primary), None)
    sources = []
    own = "user", str(user.id)
    if counts(own):
        sources.append((own, Holder((), ANYWHERE, None, None, None, primary)))
    for name, path in group_paths(user.groups, world.group_parents).items():
        if counts(("group", name)):
            steps = tuple(_step("group", one) for one in path)
            sources.append((("group", name), Holder(steps, ANYWHERE, None, None, None, primary)))
    for job in user.employments:
        bound = Scope(job.company, None, None)
        named = [("position", job.position)] if job.position else []
        for kind, code in (*named, *(("unit", code) for code in job.org_units)):
            if counts((kind, code)):
                holder = Holder((_step(kind, code),), bound, None, job.valid_from, job.valid_until, job)
                sources.append(((kind, code), holder))
    return sources


def _assigned(key: tuple[str, str], holder: Holder, world: MappingWorld) -> Iterable[Derivation]:
    for fact in world.assignments.get(key, ()):
        scope = intersect(holder.scope, fact.scope, world.org)
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
    holder: Holder,
    user: UserFacts,
    world: MappingWorld,
    excluded: _Excluded,
) -> Iterable[Derivation]:
    for row in world.mappings.get(key, ()):
        if row.role.startswith(f"{CONSOLE_APPLICATION}:"):
            continue
        if row.condition is not None and not row.condition(user.attributes):
            continue
        since, until = _overlap(holder.valid_from, holder.valid_until, row.valid_from, row.valid_until)
        if row.exclude:
            excluded[row.role] = excluded.get(row.role, frozenset()) | {(since, until)}
            continue
        scope, limit = _transform(row, holder, user, world)
        if scope is None or isinstance(limit, str):
            continue
        cause = _step("mapping", row.id)
        grant = Grant(row.role, scope, limit, since, until, cause)
        yield Derivation(grant, (*holder.steps, cause, _step("role", row.role)), mapped=True)


def _transform(
    row: MappingRule, holder: Holder, user: UserFacts, world: MappingWorld
) -> tuple[Scope | None, Amount | str | None]:
    """The membership's scope (None = nothing is left) and limit ("none" = amounts that cannot be compared).

    `inherit` keeps the source's scope, `narrow` takes what it has in common with the row's, `fixed` takes the row's
    where it lies inside the source's, and nothing elsewhere.
    """
    job = holder.employment or next((one for one in user.employments if one.primary), None)
    wanted = row.scope if row.transform != "inherit" else ANYWHERE
    if OWN in {wanted.company, wanted.org_unit}:
        if job is None:
            return None, None
        company = job.company if wanted.company == OWN else wanted.company
        org_unit = job.org_unit if wanted.org_unit == OWN else wanted.org_unit
        if wanted.org_unit == OWN and org_unit is None:
            return None, None
        wanted = Scope(company, org_unit, wanted.business_type)
    scope = intersect(holder.scope, wanted, world.org)
    if row.transform == "fixed" and scope != wanted:
        return None, None
    return scope, smaller(holder.limit, row.limit)


def intersect(one: Scope, other: Scope, org: Mapping[str, Sequence[str]]) -> Scope | None:
    """The scope that lies in both, or None. Of two units the lower one, where it hangs below the other."""
    parts: list[str | None] = []
    for name, a, b in zip(Scope._fields, one, other, strict=True):
        if a is None or b is None or a == b:
            parts.append(b if a is None else a)
        elif name == "org_unit" and b in org.get(a, ()):
            parts.append(a)
        elif name == "org_unit" and a in org.get(b, ()):
            parts.append(b)
        else:
            return None
    return Scope(*parts)


def smaller(one: Amount | None, other: Amount | None) -> Amount | str | None:
    """The smaller of two limits; "none" when their currencies differ, so that nothing is granted."""
    if one is None or other is None:
        return one or other
    if one.currency != other.currency:
        return "none"
    return one if one.value <= other.value else other


def _overlap(
    from_a: datetime | None,
    until_a: datetime | None,
    from_b: datetime | None,
    until_b: datetime | None,
) -> tuple[datetime | None, datetime | None]:
    since = max((one for one in (from_a, from_b) if one), default=None)
    until = min((one for one in (until_a, until_b) if one), default=None)
    return since, until
