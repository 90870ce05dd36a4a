"""Whether rules are published by a second person: stored, and itself changed by two persons only."""

from __future__ import annotations

from sqlalchemy import Connection, select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, Refused, Stale
from identity.core.record import Record
from identity.core.unit import Unit
from identity.roles.models_drafts import SecondPersonRule


def is_required(connection: Connection, *, demo: bool) -> bool:
    """Whether a second person publishes. Where nobody has decided it yet: everywhere but in the demo."""
    stored = connection.execute(select(SecondPersonRule.required)).scalar_one_or_none()
    return not demo if stored is None else stored


def propose_rule(unit: Unit, required: bool, *, demo: bool) -> SecondPersonRule:
    """Nothing changes before a second person agrees: one alone neither takes the guard away nor puts it in others' way.

    Raises `Conflict` when it is so already, or when a proposal is open.
    """
    unit.require("write", "policy", "second-person")
    if unit.actor.person is None:
        raise Refused("A person must propose this.", code="person_needed")
    row = _row(unit)
    now = is_required(unit.db.connection(), demo=demo)
    if row is not None and row.wanted is not None:
        raise Conflict("This is proposed already.", code="proposed")
    if now == required:
        raise Conflict("This is so already.", code="nothing_to_do")
    if row is None:
        row = SecondPersonRule(slot=1, required=now, row_version=0)
        unit.db.add(row)
    row.wanted, row.proposed_by, row.proposed_at = required, unit.actor.person, unit.now
    row.reason, row.reference, row.row_version = unit.reason or "", unit.reference, row.row_version + 1
    unit.db.flush()
    _record(unit, Kind.SECOND_PERSON_PROPOSED, {"required": now}, {"required": required})
    return row


def decide_rule(unit: Unit, row_version: int, *, approve: bool) -> None:
    """A second person agrees or not; raises `Refused` for the proposer by any identity, `Stale`, `Conflict`."""
    unit.require("approve", "policy", "second-person")
    row = _row(unit)
    if row is None or row.wanted is None:
        raise Conflict("This has been decided already.", code="decided")
    if row.row_version != row_version:
        raise Stale("This has changed since the page was loaded.", code="stale")
    if unit.actor.person is None or unit.actor.person == row.proposed_by:
        raise Refused("A second person must decide this.", code="four_eyes")
    before, wanted = row.required, row.wanted
    if approve:
        row.required = wanted
    row.wanted, row.row_version = None, row.row_version + 1
    _record(
        unit,
        Kind.SECOND_PERSON_DECIDED,
        {"required": before},
        {"required": row.required, "answer": "approve" if approve else "refuse", "proposed_by": str(row.proposed_by)},
    )


def find_rule(unit: Unit) -> SecondPersonRule | None:
    """The stored rule with an open proposal, if any."""
    return unit.db.get(SecondPersonRule, 1)


def _row(unit: Unit) -> SecondPersonRule | None:
    return unit.db.get(SecondPersonRule, 1, with_for_update=True)


def _record(unit: Unit, kind: Kind, before: dict[str, bool], after: dict[str, object]) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            resource_type="policy",
            resource_id="second-person",
            before=before,
            after=after,
        )
    )
