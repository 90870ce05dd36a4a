"""One function decides for everybody: our own doors and console, and every application that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from identity.access import administration
from identity.access.recorded import record_of
from identity.access.snapshot import Snapshot, Snapshots, SnapshotUser
from identity.core.errors import Refused
from identity.core.i18n import gettext_noop as _
from identity.core.record import Call
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import DutyActivation, ObjectAct
from policies import Act, Action, Activation, Amount, Decision, Request, Resource

SESSIONLESS_DUTY_S = 36_000

_REFUSALS = {
    "self_grant": _("Nobody grants a role to himself."),
    "administration_role": _("Administration roles are proposed, and approved by a second administrator."),
    "no_admin_grant": _("You may not grant roles."),
    "grant_power": _("You may not do this with roles."),
    "grant_role": _("You may not grant this role, or what comes with it."),
    "grant_scope": _("You may not grant a role in this scope."),
    "grant_target": _("You may not grant roles to these people."),
    "grant_limit": _("You may not grant a limit as high as this."),
    "grant_duration": _("You may not grant a role for as long as this."),
}


class AccessRequest(NamedTuple):
    """May this user do this action on this resource of this application?

    `properties.amount` is a `policies.Amount`; `sid` names the session for dynamic separation of duty; `stated` are
    acts on this object that the application tells of, beside those that we know; `stands_for` is the user in whose
    place the subject acts, if any; `subject_id` is how the caller named somebody whom we do not know by it.
    """

    application: str
    user: UUID | None
    resource_type: str
    resource_id: str
    action: str
    properties: Mapping[str, Any] = {}
    action_properties: Mapping[str, Any] = {}
    context: Mapping[str, Any] = {}
    intent: str = "ask"
    acr: str | None = None
    sid: str | None = None
    stated: tuple[Act, ...] = ()
    stands_for: UUID | None = None
    subject_id: str = ""


class Decided(NamedTuple):
    """The answer, with the snapshot that it was made from; `reason` is a stable code."""

    permit: bool
    reason: str
    obligations: tuple[Any, ...]
    policy_version: int
    facts_revision: int
    snapshot: Snapshot
    rules: tuple[str, ...] = ()
    activates: tuple[Activation, ...] = ()
    person: UUID | None = None
    input: Mapping[str, Any] = {}


class Access:
    """The decision point of this process."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def snapshot(self) -> Snapshot:
        """The current snapshot; raises `Unavailable` when it cannot be confirmed."""
        return self._snapshots.current()

    def decide(self, call: Call, request: AccessRequest, snapshot: Snapshot | None = None) -> Decided:
        """Decide and leave the record with the call, which makes it durable before the answer leaves; by the current
        snapshot, or the one that the request was read with.

        Raises `Unavailable` when no decision can be made: that is never an answer.
        """
        decided = evaluate_in(snapshot or self.snapshot(), request, call.now)
        call.records.append(record_of(request, decided))
        return decided

    def peek(self, request: AccessRequest, now: datetime) -> bool:
        """Whether a menu entry or tile should be drawn; not recorded, and never a guard."""
        return evaluate_in(self.snapshot(), request, now).permit

    def may_read(self, user: SnapshotUser, resource_type: str, now: datetime) -> bool:
        """Whether the user's own administration roles show him all of this, not his rights to grant alone."""
        request = AccessRequest(CONSOLE_APPLICATION, user.id, resource_type, "page", "read")
        return self.snapshot().engine.evaluate(engine_request(request, user, now)).permit

    def perform(self, connection: Connection, snapshot: Snapshot, request: AccessRequest, now: datetime) -> Decided:
        """Decide an act that a duty rule names, by the acts known so far, and insert that of a permitted `perform`.

        A `perform` needs the caller's write transaction, which holds the `lock`; an `ask` only reads (foundations §4).
        Its record is not yet written.
        """
        user = snapshot.users.get(request.user) if request.user else None
        acts, activations = self.known(connection, snapshot, request, now)
        decided = evaluate_in(snapshot, request, now, acts, activations)
        if decided.permit and request.intent == "perform" and user is not None:
            self._remember(connection, snapshot, user, request, decided, now)
        return decided

    def known(
        self, connection: Connection, snapshot: Snapshot, request: AccessRequest, now: datetime
    ) -> tuple[tuple[Act, ...], tuple[Activation, ...]]:
        """The acts on this object that are known and stated, and the roles that the person has in use."""
        user = snapshot.users.get(request.user) if request.user else None
        return (*self._acts(connection, request), *request.stated), self._activations(connection, user, now)

    def lock(self, connection: Connection, requests: list[AccessRequest]) -> None:
        """Take the locks of these requests' objects and persons, in sorted order, until the transaction ends."""
        if connection.dialect.name != "postgresql":
            return  # BEGIN IMMEDIATE has the only write lock there is
        snapshot = self.snapshot()
        keys = {f"object:{r.application}:{r.resource_type}:{r.resource_id}" for r in requests}
        ids = {one for r in requests for one in (r.user, r.stands_for) if one is not None}
        keys |= {f"person:{snapshot.users[one].person_id}" for one in ids if one in snapshot.users}
        for key in sorted(keys):
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})

    def guard(
        self,
        unit: Unit,
        action: str,
        resource_type: str,
        resource_id: str,
        properties: Mapping[str, Any],
    ) -> None:
        """The port behind `Unit.require`: raises `Refused` unless the acting user may do this in the console."""
        request = AccessRequest(
            CONSOLE_APPLICATION,
            unit.actor.user,
            resource_type,
            resource_id,
            action,
            properties,
            intent="perform",
            sid=str(unit.actor.session) if unit.actor.session else None,
        )
        decided = self.decide(unit, request)
        if not decided.permit:
            sentence = _REFUSALS.get(decided.reason)
            raise Refused(
                sentence or _("You may not do this."),
                f"{action} {resource_type} {resource_id}",
                code=decided.reason if sentence else "forbidden",
            )

    def _acts(self, connection: Connection, request: AccessRequest) -> tuple[Act, ...]:
        rows = connection.execute(
            select(ObjectAct.person_id, ObjectAct.action).where(
                ObjectAct.application == request.application,
                ObjectAct.resource_type == request.resource_type,
                ObjectAct.resource_id == request.resource_id,
            )
        )
        return tuple(Act(str(person), action) for person, action in rows)

    def _activations(
        self,
        connection: Connection,
        user: SnapshotUser | None,
        now: datetime,
    ) -> tuple[Activation, ...]:
        """Roles in use in any session of the person that has not ended: another identity or a second session of the
        same person is blocked as well (foundations §4)."""
        if user is None:
            return ()
        rows = connection.execute(
            select(DutyActivation.rule_id, DutyActivation.role_key)
            .where(DutyActivation.person_id == user.person_id, DutyActivation.expires_at > now)
            .distinct()
            .order_by(DutyActivation.rule_id, DutyActivation.role_key)
        )
        return tuple(Activation(rule, role) for rule, role in rows)

    def _remember(
        self,
        connection: Connection,
        snapshot: Snapshot,
        user: SnapshotUser,
        request: AccessRequest,
        decided: Decided,
        now: datetime,
    ) -> None:
        maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        persons = [user.person_id]
        if request.stands_for and snapshot.users[request.stands_for].person_id not in persons:
            persons.append(snapshot.users[request.stands_for].person_id)
        if snapshot.engine.names_object_duty(request.application, request.resource_type, request.action):
            for person_id in persons:
                connection.execute(
                    maker(ObjectAct)
                    .values(
                        id=new_id(),
                        application=request.application,
                        resource_type=request.resource_type,
                        resource_id=request.resource_id,
                        person_id=person_id,
                        action=request.action,
                        at=now,
                    )
                    .on_conflict_do_nothing()
                )
        expires_at = now + timedelta(seconds=SESSIONLESS_DUTY_S)
        for rule, role in decided.activates:
            connection.execute(
                maker(DutyActivation)
                .values(
                    id=new_id(),
                    person_id=user.person_id,
                    rule_id=rule,
                    role_key=role,
                    session=request.sid or "",
                    at=now,
                    expires_at=expires_at,
                )
                .on_conflict_do_update(
                    index_elements=["person_id", "rule_id", "role_key", "session"],
                    set_={"at": now, "expires_at": expires_at},
                )
            )


def touches_duty(snapshot: Snapshot, requests: Iterable[AccessRequest]) -> bool:
    """Whether performing any of these reads or writes acts, so that it must be decided by `Access.perform`."""
    engine = snapshot.engine
    asked: UUID | None = None
    for request in requests:
        if engine.names_object_duty(request.application, request.resource_type, request.action):
            return True
        if request.user is not asked:
            asked = request.user
            user = snapshot.users.get(asked) if asked else None
            if user is not None and engine.in_dynamic_duty(user.subject):
                return True
    return False


def evaluate_in(
    snapshot: Snapshot,
    request: AccessRequest,
    now: datetime,
    acts: tuple[Act, ...] = (),
    activations: tuple[Activation, ...] = (),
) -> Decided:
    """The decision by this snapshot; nothing else is read."""
    user = snapshot.users.get(request.user) if request.user else None
    return _decided(snapshot, request, user, now, acts, activations)


def evaluator(snapshot: Snapshot, now: datetime) -> Callable[[AccessRequest], Decided]:
    """`evaluate_in` for many questions, most of which are about one user."""
    asked: UUID | None = None
    user: SnapshotUser | None = None

    def evaluate(request: AccessRequest) -> Decided:
        nonlocal asked, user
        if request.user is not asked:
            asked = request.user
            user = snapshot.users.get(asked) if asked else None
        return _decided(snapshot, request, user, now)

    return evaluate


def _decided(
    snapshot: Snapshot,
    request: AccessRequest,
    user: SnapshotUser | None,
    now: datetime,
    acts: tuple[Act, ...] = (),
    activations: tuple[Activation, ...] = (),
) -> Decided:
    principal = snapshot.users.get(request.stands_for) if request.stands_for else None
    if user is None or (request.stands_for and principal is None):
        decision = Decision.denied("subject_unknown", snapshot.policy_version)
    elif request.application == CONSOLE_APPLICATION:
        decision = _in_console(snapshot, user, request, now)
    else:
        engine, kind = snapshot.engine, request.resource_type
        found = engine.reach(user.subject, request.application, kind, request.resource_id, request.action, now)
        if type(found) is Decision:
            decision = found
        else:
            decision = engine.weigh(engine_request(request, user, now, acts, activations, principal), *found)
    permit, reason, rules, obligations, _, activates = decision
    return Decided(
        permit,
        reason,
        obligations,
        snapshot.policy_version,
        snapshot.facts_revision,
        snapshot,
        rules,
        activates,
        user.person_id if user else None,
        _input(request, acts, activations, principal),
    )


def _in_console(snapshot: Snapshot, user: SnapshotUser, request: AccessRequest, now: datetime) -> Decision:
    """Granting roles is decided by AdminGrants alone; everything else by the console's built-in rules."""
    action, kind = request.action, request.resource_type
    if administration.concerns(action, kind):
        return administration.decide(snapshot, user, action, kind, request.resource_id, request.properties, now)
    decision = snapshot.engine.evaluate(engine_request(request, user, now))
    if not decision.permit and administration.opens(snapshot, user, action, kind, now):
        return Decision(True, "permitted", (administration.OPENED,), (), snapshot.policy_version)
    return decision


def engine_request(
    request: AccessRequest,
    user: SnapshotUser,
    now: datetime,
    acts: tuple[Act, ...] = (),
    activations: tuple[Activation, ...] = (),
    principal: SnapshotUser | None = None,
) -> Request:
    """The question as the engine takes it: about this user, with these acts and activations known, in the place of
    `principal` if any."""
    return Request(
        user.subject,
        Action(request.action, request.action_properties),
        Resource(request.application, request.resource_type, request.resource_id, request.properties),
        _context(request),
        now,
        request.intent,
        acts,
        activations,
        str(principal.person_id) if principal else None,
    )


def _context(request: AccessRequest) -> Mapping[str, Any]:
    return {**request.context, "acr": request.acr} if request.acr else request.context


def _input(
    request: AccessRequest,
    acts: tuple[Act, ...],
    activations: tuple[Activation, ...],
    principal: SnapshotUser | None,
) -> dict[str, Any]:
    """What the decision was made from, beside the facts and the rules."""
    whole: dict[str, Any] = {"context": _plain(_context(request)), "properties": _plain(request.properties)}
    if not (request.action_properties or acts or activations or request.sid or principal or request.subject_id):
        return whole
    if request.subject_id:
        whole["subject"] = request.subject_id
    if request.action_properties:
        whole["action_properties"] = _plain(request.action_properties)
    if acts:
        whole["acts"] = [[act.person, act.action] for act in acts]
    if activations:
        whole["activations"] = [[one.rule, one.role] for one in activations]
    if request.sid:
        whole["sid"] = request.sid
    if principal:
        whole["stands_for"] = {"user": principal.id, "person": principal.person_id}
    return whole


def _plain(values: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in values.values():
        if isinstance(one, Amount):
            return {
                name: {"value": value.value, "currency": value.currency} if isinstance(value, Amount) else value
                for name, value in values.items()
            }
    return values if type(values) is dict else dict(values)
