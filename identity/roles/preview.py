"""What a change of the rules would do to people, before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from identity.roles.mapping import AssignmentFact, MappingRule, MappingWorld, UserFacts, derive


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A user gains or loses a mapped or assigned role."""

    user_id: UUID
    role: str
    gains: bool


def world_with(world: MappingWorld, mappings: Iterable[MappingRule]) -> MappingWorld:
    """The same facts under other mapping rows."""
    by_source: dict[tuple[str, str], list[MappingRule]] = {}
    for rule in mappings:
        by_source.setdefault((rule.source_kind, rule.source), []).append(rule)
    assignments: Mapping[tuple[str, str], tuple[AssignmentFact, ...]] = world.assignments
    return MappingWorld(
        {key: tuple(rows) for key, rows in by_source.items()},
        assignments,
        world.group_parents,
        world.held_gains,
    )


def compare_mappings(
    before: MappingWorld, after: MappingWorld, users: Sequence[UserFacts], now: datetime
) -> list[RoleChange]:
    """Who gains and who loses which role at `now`."""
    changes = []
    for user in users:
        held, holds = _roles(user, before, now), _roles(user, after, now)
        changes += [RoleChange(user.id, role, gains=True) for role in sorted(holds - held)]
        changes += [RoleChange(user.id, role, gains=False) for role in sorted(held - holds)]
    return changes


def _roles(user: UserFacts, world: MappingWorld, now: datetime) -> set[str]:
    return {
        one.grant.role
        for one in derive(user, world)
        if (one.grant.valid_from is None or one.grant.valid_from <= now)
        and (one.grant.valid_until is None or now < one.grant.valid_until)
    }
