"""Separated duties: mitigating controls, held gains, the stored report, and the library of conflicting pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any
from uuid import UUID

import yaml
from sqlalchemy import Connection, select, update

from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound, Refused
from identity.core.facts import current_revision
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.models import Person, User
from identity.roles.inputs import MitigationInput, PairInput
from identity.roles.models import DutyActivation, DutyReport, HeldGain, Mitigation

MITIGATION_MAX = timedelta(days=366)


def mitigate(unit: Unit, wanted: MitigationInput) -> Mitigation:
    """One person may break one static rule until `valid_until`, while `owner` watches it by `control`.

    Raises `Refused` for one's own conflict or an owner who would watch himself, `Invalid` without an end within a year.
    """
    unit.require("write", "duty", wanted.rule)
    if unit.actor.person == wanted.person_id:
        raise Refused("Nobody accepts his own conflict of duties.", code="own_conflict")
    if wanted.owner_person_id == wanted.person_id:
        raise Refused("The owner of a control watches somebody else.", code="own_conflict")
    if not unit.now < wanted.valid_until <= unit.now + MITIGATION_MAX:
        raise Invalid("A control ends within a year.", code="mitigation_end")
    for person_id in (wanted.person_id, wanted.owner_person_id):
        if unit.db.get(Person, person_id) is None:
            raise NotFound("There is no such person.")
    unit.facts.put(
        unit.db,
        Mitigation,
        {"person_id": wanted.person_id, "rule_id": wanted.rule},
        {
            "control": wanted.control,
            "owner_person_id": wanted.owner_person_id,
            "reason": wanted.reason,
            "valid_until": wanted.valid_until,
        },
    )
    after = wanted.model_dump(mode="json")
    unit.record(_record(Kind.MITIGATION_ADDED, "duty", wanted.rule, wanted.person_id, after=after))
    return next(row for row in reversed(unit.facts.added) if isinstance(row, Mitigation))


def end_mitigation(unit: Unit, mitigation_id: UUID) -> None:
    """The control ends with the commit; raises `NotFound`."""
    row = unit.db.get(Mitigation, mitigation_id)
    if row is None or row.rev_until is not None:
        raise NotFound("There is no such control.")
    unit.require("write", "duty", row.rule_id)
    unit.facts.close(Mitigation, [row.id])
    unit.record(_record(Kind.MITIGATION_ENDED, "duty", row.rule_id, row.person_id))


def release_gain(unit: Unit, gain_id: UUID) -> None:
    """What a sync brought is given after all. The commit refuses it while it still joins separated duties."""
    row = unit.db.get(HeldGain, gain_id)
    if row is None or row.rev_until is not None:
        raise NotFound("There is no such held role.")
    unit.require("write", "duty", row.rule_id)
    if unit.actor.person == row.person_id:
        raise Refused("Nobody decides on his own conflict of duties.", code="own_conflict")
    unit.facts.close(HeldGain, [row.id])
    users = unit.db.execute(select(User.id).where(User.person_id == row.person_id)).scalars()
    unit.facts.touch("user", list(users))
    unit.record(_record(Kind.GAIN_RELEASED, "role", row.role_key, row.person_id, data={"cause": row.cause}))


def end_activations(connection: Connection, sessions: Iterable[str], now: Any) -> None:
    """The sessions of these sids have ended, and with them what they keep a person from doing."""
    names = [one for one in sessions if one]
    if names:
        connection.execute(
            update(DutyActivation)
            .where(DutyActivation.session.in_(names), DutyActivation.expires_at > now)
            .values(expires_at=now)
        )


def store_report(unit: Unit, findings: list[Mapping[str, Any]]) -> DutyReport:
    """Keep what a detective run found."""
    row = DutyReport(made_at=unit.now, facts_revision=current_revision(unit.db), findings=findings)
    unit.db.add(row)
    unit.db.flush()
    open_ones = sum(not one["mitigated"] for one in findings)
    data = {"found": len(findings), "open": open_ones}
    unit.record(_record(Kind.DUTIES_REPORTED, "duty_report", str(row.id), None, data=data))
    return row


def last_report(connection: Connection) -> Any:
    """The newest stored report, or None."""
    return connection.execute(select(DutyReport.__table__).order_by(DutyReport.made_at.desc()).limit(1)).first()


@cache
def library() -> Mapping[str, PairInput]:
    """The pairs of conflicting duties that are shipped, by id."""
    text = resources.files("identity.roles").joinpath("duty_pairs.yaml").read_text(encoding="utf-8")
    return {row["id"]: PairInput.model_validate(row) for row in yaml.load(text, Loader=yaml.CSafeLoader)}


def _record(kind: Kind, resource_type: str, resource_id: str, person: UUID | None, **parts: Any) -> Record:
    return Record(
        kind=kind,
        result="success",
        person=person,
        resource_type=resource_type,
        resource_id=resource_id,
        **parts,
    )
