"""Why a decision is as it is: from directory group to record, for what permits, what denies and what was missing.

One explanation for the API, the console and the command line; they only show it. It decides nothing: the answer is
that of `evaluate_in`, and the ways beside it are the engine's own, traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access import administration
from identity.access.decide import AccessRequest, engine_request
from identity.access.replay import Question, question
from identity.access.snapshot import Snapshot, SnapshotUser
from identity.audit import query
from identity.audit.kinds import Kind
from identity.core.facts import FactRevision
from identity.core.record import Record
from identity.roles.delegation import Bounds, refusal
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import Assignment, PermissionRow, PolicyVersion, RoleMapping
from identity.roles.near import Offer, offers
from policies import Act, Check, Grant, Permission, Request, trace
from policies.export import carriers
from policies.separation import object_block

WAYS_MAX = 50
OFFERS_MAX = 50
# What is decided before any rule is looked at.
_GATES = frozenset({"subject_unknown", "subject_disabled", "subject_expired", "resource_invalid"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Since when a rule or an assignment is there, and by whom; `version` is None for an assignment."""

    version: int | None
    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a way: a group, position, unit, mapping row, assignment, role or permission, by name or id."""

    kind: str
    id: str
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """From where a membership comes to a rule that concerns the question, and every check on the way.

    `code` is empty when the way leads to the end; `decisive` when the decision rests on it.
    """

    permission: Permission
    grant: Grant
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]
    code: str
    decisive: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """A permission that would permit it and that the person does not have, with the mapping rows that would give it."""

    permission: Permission
    roles: tuple[str, ...]
    """The roles that carry it: its own and those above."""
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Duty:
    """A rule by object that names the action, with the acts that it saw; `code` is empty when it allows it."""

    id: str
    title: str
    actions: tuple[str, ...]
    acts: tuple[Act, ...]
    code: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record says; `same` whether the decision made again is the same."""

    id: UUID
    item: int | None
    result: str
    reason: str
    same: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story of one decision. `ways` begin with what decided, then what came nearest."""

    request: AccessRequest
    now: datetime
    user: SnapshotUser | None
    permit: bool
    reason: str
    rules: tuple[str, ...]
    obligations: tuple[Any, ...]
    policy_version: int
    facts_revision: int
    ways: tuple[Way, ...] = ()
    missing: tuple[Missing, ...] = ()
    duties: tuple[Duty, ...] = ()
    admin_grants: tuple[tuple[Bounds, str], ...] = ()
    """The rights to grant that the person has, each with the reason why it does not cover this; empty where it does."""
    recorded: Recorded | None = None

    @property
    def gated(self) -> bool:
        """Whether it was decided before any rule was looked at."""
        return self.reason in _GATES


def explain_record(connection: Connection, record_id: UUID, item: int | None = None) -> Explanation | None:
    """The explanation of a recorded decision (or of this item of a batch), from what it was made from then.

    None when there is no such decision, or it cannot be found yet.
    """
    row = query.read(connection, record_id)
    try:
        body = row.body if row is not None else {}
        entry = body if item is None else body["data"]["items"][item]
        found = explain(connection, question(connection, body, item))
        result, reason = entry["result"], entry["reason"]
    except (KeyError, IndexError):
        return None
    same = ("permit" if found.permit else "deny", found.reason) == (result, reason)
    return replace(found, recorded=Recorded(record_id, item, result, reason, same))


def read_record(found: Explanation) -> Record:
    """What reading this explanation leaves in the audit."""
    request, recorded = found.request, found.recorded
    return Record(
        kind=Kind.DECISION_EXPLAINED,
        result="success",
        user=request.user,
        person=found.user.person_id if found.user else None,
        application=request.application,
        resource_type=request.resource_type,
        resource_id=request.resource_id,
        action=request.action,
        policy_version=found.policy_version,
        facts_revision=found.facts_revision,
        data={"record": str(recorded.id), "item": recorded.item} if recorded else {"asked": "now"},
    )


def explain(connection: Connection, asked: Question) -> Explanation:
    """The answer to this question and why it is so; the connection is read for the origins of rules only."""
    found = tell(asked)
    origins = _origins(connection, found)
    return replace(found, ways=tuple(_with_origins(one, origins) for one in found.ways))


def tell(asked: Question) -> Explanation:
    """The explanation without origins; pure."""
    snapshot, request = asked.snapshot, asked.request
    decided = asked.answer()
    user = snapshot.users.get(request.user) if request.user else None
    found = Explanation(
        request,
        asked.now,
        user,
        decided.permit,
        decided.reason,
        decided.rules,
        decided.obligations,
        decided.policy_version,
        decided.facts_revision,
    )
    if user is None:
        return found
    if request.application == CONSOLE_APPLICATION and administration.concerns(request.action, request.resource_type):
        return replace(found, admin_grants=_considered(snapshot, user, request, asked.now))
    if found.rules == (administration.OPENED,):
        opening = administration.bounds_of(snapshot, user, asked.now)
        return replace(found, admin_grants=tuple((one, "") for one in opening))
    principal = snapshot.users.get(request.stands_for) if request.stands_for else None
    put = engine_request(request, user, asked.now, asked.acts, asked.activations, principal)
    traced = trace(snapshot.engine, put)
    derived = {one.grant: one.steps for one in reversed(user.derivations)}
    ways = [
        Way(one.permission, one.grant, _steps(derived[one.grant], one.roles), one.checks, one.code, decisive=False)
        for one in traced
        if one.grant is not None
    ]
    ways = [replace(one, steps=(*one.steps, Step("permission", one.permission.id))) for one in ways]
    ways = _ordered([replace(one, decisive=_decides(one, found)) for one in ways])
    unreached = [one.permission for one in traced if one.grant is None and one.permission.effect == "permit"]
    return replace(
        found,
        ways=tuple(ways[:WAYS_MAX]),
        missing=() if found.permit else _missing(snapshot, user, unreached[:WAYS_MAX]),
        duties=_duties(snapshot, put),
    )


def _steps(derivation: tuple[str, ...], roles: tuple[str, ...]) -> tuple[Step, ...]:
    """The derivation's steps, which end with the role that is held, and the roles inherited below it."""
    named = (one.partition(":") for one in derivation)
    return (*(Step(kind, name) for kind, _, name in named), *(Step("role", one) for one in roles[1:]))


def _decides(way: Way, found: Explanation) -> bool:
    if found.gated:
        return False
    denies = way.permission.effect == "deny"
    if found.permit or found.reason == "denied":
        return not way.code and way.permission.id in found.rules and denies is not found.permit
    # A duty by object forbids what a rule permits; else what came nearest says why.
    return not denies and way.code == ("" if found.reason.startswith("sod_") and not way.code else found.reason)


def _ordered(ways: list[Way]) -> list[Way]:
    """What decided first, then denies that hold, permits that hold, and the rest."""
    return sorted(ways, key=lambda one: (not one.decisive, bool(one.code), one.permission.effect != "deny"))


def _missing(snapshot: Snapshot, user: SnapshotUser, permissions: Sequence[Permission]) -> tuple[Missing, ...]:
    by_role: dict[str, tuple[tuple[str, ...], tuple[Offer, ...]]] = {}
    for one in permissions:
        if one.role not in by_role:
            above = carriers(snapshot.engine.rules, (one,)) - {one.role}
            roles = (one.role, *sorted(above))
            found = offers(user.identity.facts, snapshot.world, user.derivations, roles)
            by_role[one.role] = roles, found[:OFFERS_MAX]
    return tuple(Missing(one, *by_role[one.role]) for one in permissions)


def _duties(snapshot: Snapshot, put: Request) -> tuple[Duty, ...]:
    resource = put.resource
    titles = {one.id: one.title for one in snapshot.content.duties}
    found = []
    for duty in snapshot.engine.object_duties(resource.application, resource.type, put.action.name):
        blocked = object_block([duty], put)
        seen = tuple(act for act in put.acts if act.action in duty.actions)
        found.append(Duty(duty.id, titles.get(duty.id, ""), duty.actions, seen, blocked[0] if blocked else ""))
    return tuple(found)


def _considered(
    snapshot: Snapshot, user: SnapshotUser, request: AccessRequest, now: datetime
) -> tuple[tuple[Bounds, str], ...]:
    wanted = administration.wanted_of(
        snapshot, request.action, request.resource_type, request.resource_id, request.properties, now
    )
    return tuple(
        (one, refusal([one], wanted, snapshot.org)[0]) for one in administration.bounds_of(snapshot, user, now)
    )


def _with_origins(way: Way, origins: Mapping[tuple[str, str], Origin]) -> Way:
    return replace(way, steps=tuple(replace(one, origin=origins.get((one.kind, one.id))) for one in way.steps))


def _origins(connection: Connection, found: Explanation) -> dict[tuple[str, str], Origin]:
    """Since which version the rows of the ways stand in the rules without a break, and who made the assignments."""
    ids: dict[str, set[str]] = {"mapping": set(), "permission": set(), "assignment": set()}
    for way in found.ways:
        for one in way.steps:
            if one.kind in ids:
                ids[one.kind].add(one.id)
    versions = {
        row.version: row
        for row in connection.execute(
            select(PolicyVersion.__table__).where(PolicyVersion.version <= found.policy_version)
        )
    }
    origins: dict[tuple[str, str], Origin] = {}
    for kind, table in (("mapping", RoleMapping), ("permission", PermissionRow)):
        holding: dict[str, set[int]] = {}
        for row_id, version in connection.execute(select(table.id, table.version).where(table.id.in_(ids[kind]))):
            holding.setdefault(row_id, set()).add(version)
        for row_id, present in holding.items():
            first = _first(found.policy_version, present, versions)
            if first is not None:
                row = versions[first]
                origins[kind, row_id] = Origin(first, row.created_by, row.created_at, row.note)
    return origins | _assignments(connection, ids["assignment"], found.facts_revision)


def _first(version: int, present: Iterable[int], versions: Mapping[int, Any]) -> int | None:
    """The oldest version from which on, up to this one, each holds the row."""
    holding, first = set(present), None
    at: int | None = version
    while at in holding and at in versions:
        first, at = at, versions[at].based_on
    return first


def _assignments(connection: Connection, ids: Iterable[str], revision: int) -> dict[tuple[str, str], Origin]:
    wanted = [UUID(one) for one in ids]
    rows = connection.execute(
        select(Assignment.assignment_id, Assignment.granted_by, Assignment.reason, FactRevision.at)
        .join(FactRevision, FactRevision.revision == Assignment.rev_from)
        .where(Assignment.assignment_id.in_(wanted), Assignment.rev_from <= revision)
        .order_by(Assignment.rev_from)
    )
    return {("assignment", str(row.assignment_id)): Origin(None, row.granted_by, row.at, row.reason) for row in rows}
