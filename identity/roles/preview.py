"""What a change of the rules would do to people, before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from identity.roles.mapping import MappingRule, MappingWorld, UserFacts, derive
from policies import Amount, Grant, Scope

_Terms = tuple[Scope, Amount | None, datetime | None]


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A user gains or loses a role, or holds it in another scope, limit or validity than before.

    `before` and `after` are the grants of this role that only the one or only the other rules derive.
    """

    user_id: UUID
    role: str
    before: tuple[Grant, ...]
    after: tuple[Grant, ...]
    kind: str
    """gains, loses or changes."""


def world_with(world: MappingWorld, mappings: Iterable[MappingRule]) -> MappingWorld:
    """The same facts under other mapping rows."""
    by_source: dict[tuple[str, str], list[MappingRule]] = {}
    for rule in mappings:
        by_source.setdefault((rule.source_kind, rule.source), []).append(rule)
    return replace(world, mappings={key: tuple(rows) for key, rows in by_source.items()})


def compare_mappings(
    before: MappingWorld, after: MappingWorld, users: Sequence[UserFacts], now: datetime
) -> list[RoleChange]:
    """Who gains, who loses and whose role has other terms at `now`."""
    changes = []
    for user in users:
        held, holds = _grants(user, before, now), _grants(user, after, now)
        for role in sorted(held.keys() | holds.keys()):
            old, new = held.get(role, {}), holds.get(role, {})
            if old.keys() == new.keys():
                continue
            kind = "changes" if old and new else "gains" if new else "loses"
            lost = tuple(grant for terms, grant in old.items() if terms not in new)
            gained = tuple(grant for terms, grant in new.items() if terms not in old)
            changes.append(RoleChange(user.id, role, lost, gained, kind))
    return changes


def _grants(user: UserFacts, world: MappingWorld, now: datetime) -> dict[str, dict[_Terms, Grant]]:
    """Role → the grants of it that are valid now, by what they allow."""
    found: dict[str, dict[_Terms, Grant]] = {}
    for one in derive(user, world):
        grant = one.grant
        if (grant.valid_from is None or grant.valid_from <= now) and (
            grant.valid_until is None or now < grant.valid_until
        ):
            found.setdefault(grant.role, {})[grant.scope, grant.limit, grant.valid_until] = grant
    return found
