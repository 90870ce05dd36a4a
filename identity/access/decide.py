"""One function decides for everybody: our own doors and console, and every application that asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from identity.access.snapshot import Snapshot, Snapshots, SnapshotUser
from identity.audit.kinds import Kind
from identity.core.errors import Refused
from identity.core.record import Call, Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import DutyActivation, ObjectAct
from policies import Act, Action, Activation, Amount, Decision, Request, Resource

SESSIONLESS_DUTY_S = 36_000


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """May this user do this action on this resource of this application?

    `properties.amount` is a `policies.Amount`; `sid` names the session for dynamic separation of duty; `stated` are
    acts on this object that the application tells of, beside those that we know.
    """

    application: str
    user: UUID | None
    resource_type: str
    resource_id: str
    action: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    action_properties: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    intent: str = "ask"
    acr: str | None = None
    sid: str | None = None
    stated: tuple[Act, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer, with the snapshot that it was made from; `reason` is a stable code."""

    permit: bool
    reason: str
    obligations: tuple[Any, ...]
    policy_version: int
    facts_revision: int
    snapshot: Snapshot
    rules: tuple[str, ...] = ()


class Access:
    """The decision point of this process."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def snapshot(self) -> Snapshot:
        """The current snapshot; raises `Unavailable` when it cannot be confirmed."""
        return self._snapshots.current()

    def decide(self, call: Call, request: AccessRequest) -> Decided:
        """Decide and leave the record with the call, which makes it durable before the answer leaves.

        Raises `Unavailable` when no decision can be made: that is never an answer.
        """
        decided, record = self._evaluate(self.snapshot(), request, call.now, (), ())
        call.records.append(record)
        return decided

    def evaluate(self, request: AccessRequest, now: datetime) -> tuple[Decided, Record]:
        """Decide and return the record for a caller that joins several of them (an AuthZEN batch)."""
        return self._evaluate(self.snapshot(), request, now, (), ())

    def peek(self, request: AccessRequest, now: datetime) -> bool:
        """Whether a menu entry or tile should be drawn; not recorded, and never a guard."""
        decided, _ = self._evaluate(self.snapshot(), request, now, (), ())
        return decided.permit

    def touches_duty(self, request: AccessRequest) -> bool:
        """Whether performing this reads or writes acts, so that it must be decided by `perform`."""
        snapshot = self.snapshot()
        engine = snapshot.engine
        user = snapshot.users.get(request.user) if request.user else None
        return engine.names_object_duty(request.application, request.resource_type, request.action) or (
            user is not None and engine.in_dynamic_duty(user.subject)
        )

    def perform(self, connection: Connection, call: Call, request: AccessRequest) -> tuple[Decided, Record]:
        """Decide an act that a duty rule names, inside the caller's write transaction, which holds the `lock`.

        Reads the acts known so far, decides, and inserts the act of a permitted `perform` (foundations §4). The
        record is returned, not yet written.
        """
        snapshot = self.snapshot()
        user = snapshot.users.get(request.user) if request.user else None
        acts = (*self._acts(connection, request), *request.stated)
        activations = self._activations(connection, user, request, call.now)
        decided, record = self._evaluate(snapshot, request, call.now, acts, activations)
        if decided.permit and request.intent == "perform" and user is not None:
            self._remember(connection, snapshot, user, request, decided, call.now)
        return decided, record

    def lock(self, connection: Connection, requests: list[AccessRequest]) -> None:
        """Take the locks of these requests' objects and persons, in sorted order, until the transaction ends."""
        if connection.dialect.name != "postgresql":
            return  # BEGIN IMMEDIATE has the only write lock there is
        snapshot = self.snapshot()
        keys = {f"object:{r.application}:{r.resource_type}:{r.resource_id}" for r in requests}
        users = [snapshot.users[r.user] for r in requests if r.user is not None and r.user in snapshot.users]
        keys |= {f"person:{user.person_id}" for user in users}
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
        if not self.decide(unit, request).permit:
            raise Refused(
                "You may not do this.",
                f"{action} {resource_type} {resource_id}",
                code="forbidden",
            )

    def _evaluate(
        self,
        snapshot: Snapshot,
        request: AccessRequest,
        now: datetime,
        acts: tuple[Act, ...],
        activations: tuple[Activation, ...],
    ) -> tuple[Decided, Record]:
        user = snapshot.users.get(request.user) if request.user else None
        if user is None:
            decision = Decision.denied("subject_unknown", snapshot.policy_version)
        else:
            decision = snapshot.engine.evaluate(engine_request(request, user, now, acts, activations))
        decided = Decided(
            permit=decision.permit,
            reason=decision.reason,
            obligations=decision.obligations,
            policy_version=snapshot.policy_version,
            facts_revision=snapshot.facts_revision,
            snapshot=snapshot,
            rules=decision.rules,
        )
        return decided, _record(request, user, decided, acts, activations)

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
        request: AccessRequest,
        now: datetime,
    ) -> tuple[Activation, ...]:
        if user is None:
            return ()
        rows = connection.execute(
            select(DutyActivation.rule_id, DutyActivation.role_key).where(
                DutyActivation.person_id == user.person_id,
                DutyActivation.session == (request.sid or ""),
                DutyActivation.expires_at > now,
            )
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
        if snapshot.engine.names_object_duty(request.application, request.resource_type, request.action):
            connection.execute(
                maker(ObjectAct)
                .values(
                    id=new_id(),
                    application=request.application,
                    resource_type=request.resource_type,
                    resource_id=request.resource_id,
                    person_id=user.person_id,
                    action=request.action,
                    at=now,
                )
                .on_conflict_do_nothing()
            )
        for rule, role in snapshot.engine.activated(user.subject, decided.rules):
            connection.execute(
                maker(DutyActivation)
                .values(
                    id=new_id(),
                    person_id=user.person_id,
                    rule_id=rule,
                    role_key=role,
                    session=request.sid or "",
                    at=now,
                    expires_at=now + timedelta(seconds=SESSIONLESS_DUTY_S),
                )
                .on_conflict_do_nothing()
            )


def engine_request(
    request: AccessRequest,
    user: SnapshotUser,
    now: datetime,
    acts: tuple[Act, ...] = (),
    activations: tuple[Activation, ...] = (),
) -> Request:
    """The question as the engine takes it: about this user, with these acts and activations known."""
    return Request(
        subject=user.subject,
        action=Action(request.action, request.action_properties),
        resource=Resource(request.application, request.resource_type, request.resource_id, request.properties),
        context=_context(request),
        now=now,
        intent=request.intent,
        acts=acts,
        activations=activations,
    )


def _context(request: AccessRequest) -> Mapping[str, Any]:
    return {**request.context, "acr": request.acr} if request.acr else request.context


def _record(
    request: AccessRequest,
    user: SnapshotUser | None,
    decided: Decided,
    acts: tuple[Act, ...],
    activations: tuple[Activation, ...],
) -> Record:
    whole: dict[str, Any] = {
        "properties": _plain(request.properties),
        "context": _plain(_context(request)),
    }
    if request.action_properties:
        whole["action_properties"] = _plain(request.action_properties)
    if acts:
        whole["acts"] = [[act.person, act.action] for act in acts]
    if activations:
        whole["activations"] = [[one.rule, one.role] for one in activations]
    if request.sid:
        whole["sid"] = request.sid
    return Record(
        kind=Kind.DECISION_MADE,
        result="permit" if decided.permit else "deny",
        reason=decided.reason,
        user=request.user,
        person=user.person_id if user else None,
        application=request.application,
        resource_type=request.resource_type,
        resource_id=request.resource_id,
        action=request.action,
        intent=request.intent,
        policy_version=decided.policy_version,
        facts_revision=decided.facts_revision,
        rules=decided.rules,
        input=whole,
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"value": value.value, "currency": value.currency} if isinstance(value, Amount) else value
        for name, value in values.items()
    }
