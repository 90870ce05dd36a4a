"""What a plan does to people's roles, before it is applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.subject import Identity, load_identities, load_org, load_rules, load_world
from identity.people.models import Group, Membership, SourceAccount
from identity.roles.mapping import EmploymentFact, MappingWorld, UserFacts, derive
from identity.sync.plan import Change, KnownDirectory, SyncPlan

PEOPLE_MAX = 5_000
NAMES_MAX = 200
GROUPS_AT_ONCE = 500


@dataclass(slots=True)
class Effects:
    """`gains` and `losses` are {role: logins}; `counted` false = so many people
    change that their roles were not derived."""

    gains: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    losses: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counted: bool = True

    def to_json(self) -> dict[str, Any]:
        """The form in which a run keeps them; at most two hundred logins a role, with the number of all."""

        def short(roles: Mapping[str, list[str]]) -> dict[str, Any]:
            return {
                role: {"n": len(logins), "logins": sorted(logins)[:NAMES_MAX]} for role, logins in sorted(roles.items())
            }

        return {
            "gains": short(self.gains),
            "losses": short(self.losses),
            "counted": self.counted,
        }


def effects_of(connection: Connection, plan: SyncPlan, known: KnownDirectory) -> Effects:
    """Derive the roles of everybody whom the plan touches, before and after."""
    found = Effects()
    by_user: dict[str, list[Change]] = defaultdict(list)
    for change in plan.changes:
        if change.kind.startswith("user_"):
            by_user[change.immutable_id].append(change)
    nests = [change for change in plan.changes if change.kind in {"group_nest", "group_remove"}]
    users = {key: user.user_id for key, user in known.users.items() if key in by_user}
    if nests:
        users |= _inside(connection, known, nests)
    if len(users.keys() | by_user.keys()) > PEOPLE_MAX:
        found.counted = False
        return found
    if users or by_user:
        _derive(connection, plan, users, by_user, found)
    return found


def _derive(
    connection: Connection,
    plan: SyncPlan,
    users: Mapping[str, UUID],
    by_user: Mapping[str, Sequence[Change]],
    found: Effects,
) -> None:
    _, content = load_rules(connection)
    org = load_org(connection)
    world = load_world(connection, content, org)
    names = {row.immutable_id: row.name for row in connection.execute(select(Group.immutable_id, Group.name))}
    for change in plan.changes:
        if change.kind in {"group_add", "group_update"} and "name" in change.after:
            names[change.immutable_id] = change.after["name"]
    after_world = _world_after(world, plan, names)
    identities = load_identities(connection, org, users.values())
    for key in users.keys() | by_user.keys():
        identity = identities.get(users[key]) if key in users else None
        changes = by_user.get(key, ())
        before = _roles(identity.facts, world) if identity and identity.state == "active" else set()
        facts, active = _facts_after(identity, changes, names, org)
        after = _roles(facts, after_world) if active else set()
        login = changes[0].title if changes else identity.login if identity else key
        for role in after - before:
            found.gains[role].append(login)
        for role in before - after:
            found.losses[role].append(login)


def _roles(facts: UserFacts, world: MappingWorld) -> set[str]:
    return {one.grant.role for one in derive(facts, world)}


def _world_after(world: MappingWorld, plan: SyncPlan, names: Mapping[str, str]) -> MappingWorld:
    parents = {child: set(above) for child, above in world.group_parents.items()}
    for change in plan.changes:
        if change.kind != "group_nest":
            continue
        parent = names.get(change.immutable_id, change.title)
        for child in change.after["add"]:
            parents.setdefault(names.get(child, child), set()).add(parent)
        for child in change.after["remove"]:
            parents.get(names.get(child, child), set()).discard(parent)
    return replace(world, group_parents={child: tuple(sorted(above)) for child, above in parents.items()})


def _facts_after(
    identity: Identity | None,
    changes: Sequence[Change],
    names: Mapping[str, str],
    org: Mapping[str, Sequence[str]],
) -> tuple[UserFacts, bool]:
    """The facts of an identity (of a new one where it is None) once the changes are made, and whether it is active."""
    empty = UserFacts(UUID(int=0), UUID(int=0), ())
    facts, active = (identity.facts, identity.state == "active") if identity else (empty, True)
    groups = set(facts.groups)
    job = next((one for one in facts.employments if one.primary), None)
    place = {
        "company": job.company if job else None,
        "department": job.org_unit if job else None,
        "position": job.position if job else None,
    }
    for change in changes:
        after = change.after
        active = {"user_disable": False, "user_enable": True}.get(change.kind, active)
        groups |= {names.get(key, key) for key in (*after.get("groups", ()), *after.get("add", ()))}
        groups -= {names.get(key, key) for key in after.get("remove", ())}
        place |= {name: after[name] for name in place if name in after}
    others = tuple(one for one in facts.employments if one is not job)
    employments = others
    company, unit = place["company"], place["department"]
    if company:
        primary = EmploymentFact(
            id=job.id if job else "",
            company=company,
            org_unit=unit,
            org_units=tuple(org.get(unit or company, (company,))),
            position=place["position"],
            primary=True,
            valid_from=job.valid_from if job else None,
            valid_until=job.valid_until if job else None,
        )
        employments = (primary, *others)
    attributes = {
        **facts.attributes,
        "company": company or "",
        "org_unit": unit or "",
        "position": place["position"] or "",
    }
    return replace(facts, groups=tuple(sorted(groups)), employments=employments, attributes=attributes), active


def _inside(connection: Connection, known: KnownDirectory, nests: Sequence[Change]) -> dict[str, UUID]:
    """Accounts (immutable id → identity) in groups whose place in other groups changes, at any depth; a few more than
    `PEOPLE_MAX` where there are so many."""
    wanted = {key for change in nests for key in (*change.after.get("add", ()), *change.after.get("remove", ()))}
    waiting = list(wanted)
    while waiting:
        group = known.groups.get(waiting.pop())
        fresh = (group.children if group else frozenset()) - wanted
        wanted |= fresh
        waiting.extend(fresh)
    found: dict[str, UUID] = {}
    keys = sorted(wanted)
    for start in range(0, len(keys), GROUPS_AT_ONCE):
        query = (
            select(SourceAccount.immutable_id, SourceAccount.user_id)
            .join(Membership, (Membership.user_id == SourceAccount.user_id) & Membership.rev_until.is_(None))
            .join(Group, (Group.id == Membership.group_id) & (Group.source_id == SourceAccount.source_id))
            .where(Group.immutable_id.in_(keys[start : start + GROUPS_AT_ONCE]))
        )
        found |= dict(connection.execute(query).all())
        if len(found) > PEOPLE_MAX:
            break
    return found
