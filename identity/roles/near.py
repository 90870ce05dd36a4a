"""Near misses: the mapping rows that would have given somebody a role, and why each did not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from identity.roles.mapping import CONSOLE_APPLICATION, Derivation, MappingRule, MappingWorld, UserFacts, sources_of

Why = Literal["mapping_source", "mapping_condition", "mapping_excluded", "gain_held", "mapping_scope"]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Offer:
    """A mapping row that gives one of the wanted roles, but not to this user.

    `why`: he is not in its source; its condition is not met; the row `by` excludes him; the membership is held back
    for a separated duty; or nothing is left of its scope and limit.
    """

    row: MappingRule
    why: Why
    by: str = ""


def offers(
    user: UserFacts, world: MappingWorld, derivations: Iterable[Derivation], wanted: Iterable[str]
) -> tuple[Offer, ...]:
    """Rows that would give one of the `wanted` roles, also by way of a business role; nearest first."""
    known = tuple(derivations)
    given = {step.partition(":")[2] for one in known for step in one.steps if step.startswith("mapping:")}
    keys: set[Key] = {key for key, _ in sources_of(user, world)}
    keys |= {("business_role", one.grant.role) for one in known}
    by_role: dict[str, list[MappingRule]] = {}
    for rows in world.mappings.values():
        for row in rows:
            by_role.setdefault(row.role, []).append(row)
    roles = dict.fromkeys(wanted)
    queue = list(roles)
    found = []
    for role in queue:
        for row in by_role.get(role, ()):
            if row.exclude or row.id in given or role.startswith(f"{CONSOLE_APPLICATION}:"):
                continue
            found.append(_offer(row, user, world, keys, by_role))
            if row.source_kind == "business_role" and row.source not in roles:
                roles[row.source] = None
                queue.append(row.source)
    return tuple(sorted(found, key=lambda one: (one.why == "mapping_source", one.row.role, one.row.source)))


def _offer(
    row: MappingRule,
    user: UserFacts,
    world: MappingWorld,
    keys: set[Key],
    by_role: Mapping[str, Sequence[MappingRule]],
) -> Offer:
    if (row.source_kind, row.source) not in keys:
        return Offer(row, "mapping_source")
    if not _met(row, user):
        return Offer(row, "mapping_condition")
    for other in by_role[row.role]:
        if other.exclude and (other.source_kind, other.source) in keys and _met(other, user):
            return Offer(row, "mapping_excluded", other.id)
    held = world.held_gains.get(user.person_id, frozenset())
    if (row.role, f"mapping:{row.id}") in held:
        return Offer(row, "gain_held")
    return Offer(row, "mapping_scope")


def _met(row: MappingRule, user: UserFacts) -> bool:
    return row.condition is None or row.condition(user.attributes)
