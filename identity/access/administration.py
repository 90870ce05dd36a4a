"""May this administrator grant this role to this holder: decided by AdminGrants, not by what he holds himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from identity.access.console import SECURITY_ADMIN
from identity.core.hot import parse_uuid
from identity.roles.delegation import EVERYTHING, POWERS, Bounds, Wanted, comes_with, refusal
from identity.roles.mapping import CONSOLE_APPLICATION, group_paths
from policies import Amount, Decision, Scope

if TYPE_CHECKING:
    from identity.access.snapshot import Snapshot, SnapshotUser

DELEGATE = "delegate"
# The rule by which a page is open to whoever may grant something.
OPENED = "admin-grant"
# What an administrator with an AdminGrant sees of the console, beside what his roles show him.
_PAGES = frozenset({("sso", "application"), ("read", "assignment"), ("write", "assignment")})


def concerns(action: str, resource_type: str) -> bool:
    """Whether AdminGrants alone decide this action of the console."""
    return (resource_type == "assignment" and action in POWERS) or (
        resource_type == "admin_grant" and action in {DELEGATE, "revoke"}
    )


def opens(snapshot: Snapshot, user: SnapshotUser, action: str, resource_type: str, now: datetime) -> bool:
    """Whether the page is open to this user because he may grant something."""
    return (
        (action, resource_type) in _PAGES and snapshot.is_active(user.id, now) and bool(bounds_of(snapshot, user, now))
    )


def bounds_of(snapshot: Snapshot, user: SnapshotUser, now: datetime) -> list[Bounds]:
    """The AdminGrants that the user has now, of his own and by his roles."""
    roles = snapshot.engine.roles_of(user.subject, now)
    keys = [("user", str(user.id)), *(("role", role) for role in sorted(roles))]
    found = [one for key in keys for one in snapshot.admin_grants.get(key, ()) if one.holds_at(now)]
    return [EVERYTHING, *found] if SECURITY_ADMIN in roles else found


def decide(
    snapshot: Snapshot,
    user: SnapshotUser,
    action: str,
    resource_type: str,
    role: str,
    properties: Mapping[str, Any],
    now: datetime,
) -> Decision:
    """Whether `user` may assign, revoke or approve `role`, or hand on an AdminGrant, with these properties:
    holder_kind, holder (id, group name, position or unit code), company, org_unit, business_type, limit (an
    `Amount`), days, and for an AdminGrant its powers and roles."""
    version = snapshot.policy_version
    if not snapshot.is_active(user.id, now):
        return Decision.denied("subject_disabled", version)
    if action != "revoke" and _is_own(snapshot, user, _holder(properties), now):
        return Decision.denied("self_grant", version)
    wanted = wanted_of(snapshot, action, resource_type, role, properties, now)
    if any(one.partition(":")[0] == CONSOLE_APPLICATION for one in wanted.roles):
        return Decision.denied("administration_role", version)
    reason, grant = refusal(bounds_of(snapshot, user, now), wanted, snapshot.org)
    if reason:
        return Decision.denied(reason, version)
    return Decision(True, "permitted", (f"admin-grant:{grant}",), (), version)


def wanted_of(
    snapshot: Snapshot, action: str, resource_type: str, role: str, properties: Mapping[str, Any], now: datetime
) -> Wanted:
    """What is to be granted, from the properties that `decide` takes."""
    limit = properties.get("limit")
    scope = Scope(*(properties.get(name) for name in Scope._fields))
    wanted = Wanted(
        powers=frozenset({action}),
        roles=comes_with(role, snapshot.engine.juniors_of(role), snapshot.world),
        scope=scope,
        limit=limit if isinstance(limit, Amount) else None,
        days=properties.get("days"),
        target=_units_of(snapshot, _holder(properties), now),
    )
    if resource_type == "admin_grant":
        # It is for people who are yet to come: its own scope says where they are.
        wanted = replace(
            wanted,
            powers=frozenset(properties.get("powers", ())),
            roles=tuple(properties.get("roles", ())),
            target=_above(scope, snapshot),
        )
    return wanted


def _holder(properties: Mapping[str, Any]) -> tuple[str, str]:
    return str(properties.get("holder_kind", "")), str(properties.get("holder", ""))


def _above(scope: Scope, snapshot: Snapshot) -> frozenset[str]:
    units = snapshot.org.get(scope.org_unit, (scope.org_unit,)) if scope.org_unit else ()
    return frozenset((*units, *([scope.company] if scope.company else ())))


def _is_own(snapshot: Snapshot, user: SnapshotUser, holder: tuple[str, str], now: datetime) -> bool:
    """Whether the holder is the person himself: any identity, group, position, unit or role of his."""
    kind, name = holder
    mine = [one for one in snapshot.users.values() if one.person_id == user.person_id]
    if kind == "user":
        return any(str(one.id) == name for one in mine)
    for one in mine:
        facts = one.identity.facts
        if kind == "group" and name in group_paths(facts.groups, snapshot.world.group_parents):
            return True
        if kind == "position" and any(job.position == name for job in facts.employments):
            return True
        if kind == "unit" and any(name in job.org_units for job in facts.employments):
            return True
        if kind == "role" and name in snapshot.engine.roles_of(one.subject, now):
            return True
    return False


def _units_of(snapshot: Snapshot, holder: tuple[str, str], now: datetime) -> frozenset[str] | None:
    kind, name = holder
    if kind == "unit":
        return frozenset(snapshot.org.get(name, ()))
    user_id = parse_uuid(name) if kind == "user" else None
    user = snapshot.users.get(user_id) if user_id is not None else None
    if user is None:
        return None
    jobs = user.identity.facts.employments
    return frozenset(
        unit
        for job in jobs
        if job.valid_until is None or now < job.valid_until
        for unit in (job.company, *job.org_units)
    )
