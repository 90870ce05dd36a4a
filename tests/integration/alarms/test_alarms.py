"""Alarms: each rule finds its case, tells its channels once, and stays silent about what is ordinary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from identity.alarms.check import acknowledge, check, put_setting
from identity.alarms.inputs import AlarmInput
from identity.alarms.models import Alarm
from identity.audit.index import index_new
from identity.audit.kinds import Kind
from identity.core.record import Actor, Origin, Record
from identity.core.unit import Units
from identity.events.models import OutboxMessage
from tests.world import World

ZONE = ZoneInfo("Asia/Shanghai")
WEDNESDAY_NOON = datetime(2026, 11, 25, 4, tzinfo=UTC)
HOOK = "https://hooks.example/tessera"


def record(world: World, at: datetime, *records: Record, actor: Actor | None = None, ip: str = "10.1.2.3") -> None:
    world.has_made_up_records = True
    units: Units = world.things[Units]
    with units.open(actor or Actor.system("test"), now=at, origin=Origin(ip)) as unit:
        for one in records:
            unit.record(one)
    index_new(world.database, at)


def run(world: World, now: datetime) -> int:
    return check(world.things[Units], now, ZONE)


def alarms(world: World) -> list[Any]:
    with world.database.read() as connection:
        return list(connection.execute(select(Alarm.__table__).order_by(Alarm.raised_at, Alarm.key)))


def told(world: World) -> list[Any]:
    with world.database.read() as connection:
        return list(connection.execute(select(OutboxMessage.__table__).where(OutboxMessage.kind == "alarm")))


def refused(login: str = "zhang") -> Record:
    return Record(kind=Kind.SESSION_REFUSED, result="refused", reason="wrong_password", data={"login": login})


def test_brute_force_is_told_once_while_it_goes_on(world: World) -> None:
    with world.unit() as unit:
        put_setting(unit, AlarmInput(rule="brute-force", threshold=5, window_s=600, channels=(HOOK,)))
    record(world, WEDNESDAY_NOON, *(refused() for _ in range(4)))
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=30)) == 0
    record(world, WEDNESDAY_NOON + timedelta(seconds=40), refused(), refused())
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=60)) == 2
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=90)) == 0
    assert [(one.key, one.count) for one in alarms(world)] == [("ip:10.1.2.3", 6), ("login:zhang", 6)]
    assert [one.destination for one in told(world)] == [HOOK, HOOK]
    assert [one["data"]["key"] for one in world.records() if one["kind"] == Kind.ALARM_RAISED] == [
        "ip:10.1.2.3",
        "login:zhang",
    ]
    later = WEDNESDAY_NOON + timedelta(hours=2)
    record(world, later, *(refused() for _ in range(6)))
    assert run(world, later + timedelta(seconds=1)) == 2


def test_many_assignments_of_one_person_raise_and_those_of_a_sync_do_not(world: World) -> None:
    added = Record(kind=Kind.ASSIGNMENT_ADDED, result="success", resource_type="role", resource_id="expense:approver")
    with world.unit() as unit:
        put_setting(unit, AlarmInput(rule="mass-grant", threshold=3))
    for name, expected in (("sync:hq", 0), ("secadmin", 1)):
        actor = Actor("system" if expected == 0 else "user", name, name)
        record(
            world,
            WEDNESDAY_NOON,
            *(Record(kind=added.kind, result="success") for _ in range(3)),
            actor=actor,
        )
        assert run(world, WEDNESDAY_NOON + timedelta(seconds=1)) == expected
    assert [one.key for one in alarms(world)] == ["actor:secadmin"]


@pytest.mark.parametrize(
    ("at", "surface", "expected"),
    [
        (WEDNESDAY_NOON, "admin", 0),
        (WEDNESDAY_NOON + timedelta(hours=8, minutes=1), "admin", 1),
        (WEDNESDAY_NOON + timedelta(days=3), "admin", 1),
        (WEDNESDAY_NOON + timedelta(hours=12), "sso", 0),
    ],
    ids=["noon", "after eight in the evening", "saturday", "an employee at night"],
)
def test_an_administrator_at_odd_hours(world: World, at: datetime, surface: str, expected: int) -> None:
    user = world.person("adm")
    record(world, at, Record(kind=Kind.SESSION_STARTED, result="success", user=user, data={"surface": surface}))
    assert run(world, at + timedelta(seconds=1)) == expected
    assert run(world, at + timedelta(minutes=30)) == 0


def test_a_dormant_account_that_is_used(world: World) -> None:
    user, other = world.person("zhang"), world.person("li")
    started = {"kind": Kind.SESSION_STARTED, "result": "success", "data": {"surface": "sso"}}
    record(world, WEDNESDAY_NOON - timedelta(days=91), Record(user=user, **started))  # type: ignore[arg-type]
    record(world, WEDNESDAY_NOON - timedelta(days=3), Record(user=other, **started))  # type: ignore[arg-type]
    record(world, WEDNESDAY_NOON, Record(user=user, **started), Record(user=other, **started))  # type: ignore[arg-type]
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=1)) == 1
    [alarm] = alarms(world)
    assert (alarm.rule, alarm.detail["user"]) == ("dormant-used", str(user))


def test_a_disabled_rule_is_silent_and_an_alarm_can_be_acknowledged(world: World) -> None:
    record(world, WEDNESDAY_NOON, *(refused() for _ in range(30)))
    with world.unit() as unit:
        put_setting(unit, AlarmInput(rule="brute-force", enabled=False))
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=1)) == 0
    with world.unit() as unit:
        put_setting(unit, AlarmInput(rule="brute-force"))
    assert run(world, WEDNESDAY_NOON + timedelta(seconds=2)) == 2
    with world.unit() as unit:
        acknowledge(unit, alarms(world)[0].id)
    assert alarms(world)[0].seen_by == "test"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "nonsense"},
        {"rule": "brute-force", "channels": ["http://evil.example/x"]},
        {"rule": "brute-force", "channels": ["mailto:a@b.example, c@d.example"]},
        {"rule": "odd-hours", "hours": "25:00-26:00"},
        {"rule": "brute-force", "threshold": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AlarmInput.model_validate(wrong)
