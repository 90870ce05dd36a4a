"""The detective look at separated duties: each night, and whenever somebody asks."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import select

from identity.access.duties import findings, mitigated
from identity.core.facts import current_revision
from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.people.models import PersonProfile
from identity.roles.models import DutyReport
from identity.roles.service_duties import last_report, store_report


def report(unit: Unit) -> DutyReport:
    """Everybody who breaks a static rule now, with a control or without; kept and recorded."""
    connection = unit.db.connection()
    revision = current_revision(unit.db)
    controls = mitigated(connection, revision, unit.now)
    found = findings(connection, revision)
    query = select(PersonProfile.person_id, PersonProfile.name).where(
        PersonProfile.person_id.in_({one.person_id for one in found})
    )
    names = dict(connection.execute(query).all())
    return store_report(
        unit,
        [
            {
                "person": str(one.person_id),
                "name": names.get(one.person_id, ""),
                "rule": one.rule,
                "title": one.title,
                "level": one.level,
                "duties": list(one.duties),
                "causes": [grant.cause for grant in one.grants],
                "mitigated": (one.person_id, one.rule) in controls,
            }
            for one in sorted(found, key=lambda one: (one.level, one.rule, str(one.person_id)))
        ],
    )


def report_due(units: Units, zone: ZoneInfo, now: datetime) -> None:
    """Report once a day, in the first hours of the organisation's night."""
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    with units.open(Actor.system("worker:duties"), write=False, now=now) as unit:
        last = last_report(unit.db.connection())
    if last is None or last.made_at < midnight:
        with units.open(Actor.system("worker:duties"), now=now) as unit:
            report(unit)
