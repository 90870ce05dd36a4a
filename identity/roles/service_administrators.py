"""Administration roles: proposed by one administrator, approved by a second person."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound, Refused
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.models import User
from identity.roles.inputs import AssignmentInput, ProposalInput
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.models import AdminGrant, AdminProposal, Assignment
from identity.roles.service_assignments import add_assignment, end_assignment, ensure_console_role


def propose(unit: Unit, wanted: ProposalInput) -> AdminProposal:
    """An administration role is to be given or taken; nothing changes before a second person approves.

    Raises `Refused` for a proposal about oneself, `NotFound` for an unknown user, `Conflict` for what is so already or
    proposed already.
    """
    unit.require("write", "administrator", wanted.role)
    user = unit.db.get(User, wanted.user_id)
    if user is None:
        raise NotFound("There is no such user.")
    if unit.actor.person == user.person_id:
        raise Refused("Nobody grants a role to himself.", code="self_grant")
    if (_assignment(unit, wanted.user_id, wanted.role) is None) == (wanted.action == "revoke"):
        raise Conflict("This is so already.", code="nothing_to_do")
    same = select(AdminProposal.id).where(
        AdminProposal.user_id == wanted.user_id, AdminProposal.role_key == wanted.role, AdminProposal.state == "open"
    )
    if unit.db.execute(same).first():
        raise Conflict("This is proposed already.", code="proposed")
    row = AdminProposal(
        user_id=wanted.user_id,
        role_key=wanted.role,
        action=wanted.action,
        reason=unit.reason or "",
        state="open",
        proposed_by=unit.actor.person,
        proposed_at=unit.now,
    )
    unit.db.add(row)
    unit.db.flush()
    _record(unit, Kind.PROPOSAL_MADE, row, user)
    return row


def decide(unit: Unit, proposal_id: UUID, *, approve: bool) -> None:
    """A second administrator approves or refuses: not who proposed it, nor whom it is about, by any identity.

    Raises `NotFound`, `Refused`, and `Conflict` when the proposal was decided already.
    """
    row = unit.db.get(AdminProposal, proposal_id, with_for_update=True)
    if row is None:
        raise NotFound("There is no such proposal.")
    unit.require("approve", "administrator", row.role_key)
    user = unit.db.get_one(User, row.user_id)
    if unit.actor.person is None or unit.actor.person in {row.proposed_by, user.person_id}:
        raise Refused("A second person must decide this.", code="four_eyes")
    if row.state != "open":
        raise Conflict("This has been decided already.", code="decided")
    row.state, row.decided_by, row.decided_at = "approved" if approve else "refused", unit.actor.person, unit.now
    if approve and row.action == "assign":
        ensure_console_role(unit, row.role_key)
        wanted = AssignmentInput(holder_kind="user", holder_id=row.user_id, role=row.role_key)
        add_assignment(unit, wanted, "console")
    elif approve:
        known = _assignment(unit, row.user_id, row.role_key)
        if known is None:
            raise Conflict("This is so already.", code="nothing_to_do")
        end_assignment(unit, known)
    _record(unit, Kind.PROPOSAL_DECIDED, row, user)


def is_administrator(unit: Unit, user_id: UUID) -> bool:
    """Whether any identity of this user's person has an administration role or a right to grant roles.

    Nobody changes by himself what such a person signs in with (attack cases PE-05 and PE-11).
    """
    person = select(User.person_id).where(User.id == user_id).scalar_subquery()
    ids = list(unit.db.execute(select(User.id).where(User.person_id == person)).scalars())
    held = select(Assignment.id).where(
        Assignment.holder_kind == "user",
        Assignment.holder_id.in_(ids),
        Assignment.role_key.startswith(f"{CONSOLE_APPLICATION}:", autoescape=True),
        Assignment.rev_until.is_(None),
    )
    grants = select(AdminGrant.id).where(
        AdminGrant.holder_kind == "user",
        AdminGrant.holder_id.in_([str(one) for one in ids]),
        AdminGrant.rev_until.is_(None),
    )
    return unit.db.execute(held).first() is not None or unit.db.execute(grants).first() is not None


def _assignment(unit: Unit, user_id: UUID, role: str) -> Assignment | None:
    return unit.facts.current(unit.db, Assignment, {"holder_kind": "user", "holder_id": user_id, "role_key": role})


def _record(unit: Unit, kind: Kind, row: AdminProposal, user: User) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=user.id,
            person=user.person_id,
            resource_type="role",
            resource_id=row.role_key,
            data={"proposal": str(row.id), "action": row.action, "state": row.state},
        )
    )
