"""Look at every rule, raise what is new, tell the channels through the outbox."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.alarms.inputs import AlarmInput
from identity.alarms.models import Alarm, AlarmSetting
from identity.alarms.rules import RULES, Finding, Rule, View
from identity.audit.kinds import Kind
from identity.core.errors import NotFound
from identity.core.i18n import gettext
from identity.core.record import Actor, Record
from identity.core.unit import Unit, Units
from identity.events.outbox import send

ACTOR = Actor.system("worker:alarms")

_log = logging.getLogger(__name__)


def check(units: Units, now: datetime, zone: tzinfo) -> int:
    """Run every enabled rule over its window; the number of alarms raised."""
    raised = 0
    for name, rule in RULES.items():
        try:
            raised += _check(units, name, rule, now, zone)
        except Exception:  # noqa: BLE001  one rule that fails must not silence the others
            _log.exception("alarm rule %s failed", name)
    return raised


def _check(units: Units, name: str, rule: Rule, now: datetime, zone: tzinfo) -> int:
    with units.open(ACTOR, write=False, now=now) as unit:
        setting = unit.db.get(AlarmSetting, name)
        if setting is not None and not setting.enabled:
            return 0
        found = list(rule.find(_view(unit.db.connection(), rule, setting, now, zone)))
    if not found:
        return 0
    with units.open(ACTOR, now=now) as unit:
        return sum(_raise(unit, name, rule, setting, one) for one in found)


def put_setting(unit: Unit, wanted: AlarmInput, *, managed_by: str = "console") -> None:
    """The rule is set so."""
    unit.require("write", "setting", f"alarm/{wanted.rule}")
    row = unit.db.get(AlarmSetting, wanted.rule)
    values: dict[str, Any] = {**wanted.model_dump(mode="json", exclude={"rule"}), "managed_by": managed_by}
    before = {name: getattr(row, name) for name in values} if row else None
    if before == values:
        return
    if row is None:
        unit.db.add(AlarmSetting(rule=wanted.rule, **values))
    else:
        for name, value in values.items():
            setattr(row, name, value)
    unit.record(
        Record(
            kind=Kind.ALARM_SET,
            result="success",
            resource_type="alarm",
            resource_id=wanted.rule,
            before=before,
            after=values,
        )
    )


def acknowledge(unit: Unit, alarm_id: UUID) -> None:
    """Somebody has seen the alarm; raises `NotFound`."""
    unit.require("read", "audit", str(alarm_id))
    row = unit.db.get(Alarm, alarm_id)
    if row is None:
        raise NotFound("There is no such alarm.")
    if row.seen_at is None:
        row.seen_at, row.seen_by = unit.now, unit.actor.name
        unit.record(Record(kind=Kind.ALARM_SEEN, result="success", resource_type="alarm", resource_id=row.rule))


def _view(connection: Connection, rule: Rule, setting: AlarmSetting | None, now: datetime, zone: tzinfo) -> View:
    window = (setting.window_s if setting else None) or rule.window_s
    threshold = (setting.threshold if setting else None) or rule.threshold
    hours = (setting.hours if setting else None) or rule.hours
    return View(connection, now - timedelta(seconds=window), now, threshold, hours, zone)


def _raise(unit: Unit, name: str, rule: Rule, setting: AlarmSetting | None, found: Finding) -> bool:
    window = timedelta(seconds=(setting.window_s if setting else None) or rule.window_s)
    known = unit.db.execute(
        select(Alarm).where(Alarm.rule == name, Alarm.key == found.key).order_by(Alarm.last_at.desc()).limit(1)
    ).scalar_one_or_none()
    if known is not None and (rule.once or unit.now - known.last_at < window):
        known.last_at, known.count = unit.now, max(known.count, found.count)
        return False
    row = Alarm(
        rule=name,
        key=found.key,
        raised_at=unit.now,
        last_at=unit.now,
        count=found.count,
        detail=dict(found.detail),
    )
    unit.db.add(row)
    unit.db.flush()
    unit.record(
        Record(
            kind=Kind.ALARM_RAISED,
            result="success",
            resource_type="alarm",
            resource_id=name,
            data={"key": found.key, "count": found.count, "detail": dict(found.detail)},
        )
    )
    for channel in setting.channels if setting else ():
        send(unit, "alarm", channel, _payload(row, rule), ordering_key=f"alarm:{channel}")
    return True


def _payload(row: Alarm, rule: Rule) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "rule": row.rule,
        "title": gettext(rule.title),
        "subject": f"Tessera: {gettext(rule.title)}",
        "text": f"{gettext(rule.title)}\n\n{row.key}: {row.count}\n{row.raised_at.isoformat()}\n\n{row.detail or ''}\n",
        "key": row.key,
        "count": row.count,
        "raised_at": row.raised_at.isoformat(),
        "detail": row.detail,
    }
