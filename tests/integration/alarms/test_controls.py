"""A control that is made use of: both of the duties that it lets one person join are performed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from identity.alarms.check import check
from identity.alarms.models import Alarm
from identity.audit.index import index_new
from identity.people.models import User
from identity.roles.inputs import MitigationInput
from identity.roles.service_duties import mitigate
from tests.security.test_separation import TOWN
from tests.servers.templates import Address, Templates
from tests.world import World

ZONE = ZoneInfo("Asia/Shanghai")
PAY = ("expense", "claim", "pay")
POST = ("erp", "voucher", "post")


@pytest.fixture
def town(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[World]:
    made = templates.world(database_url, tmp_path, TOWN)
    yield made
    made.close()


def act(town: World, user: UUID, duty: tuple[str, str, str], intent: str = "perform", batch: bool = False) -> None:
    app, resource_type, action = duty
    body = {
        "subject": {"type": "user", "id": town.sub(user)},
        "action": {"name": action},
        "resource": {"type": resource_type, "id": f"{action}-1"},
        "context": {"intent": intent},
    }
    path = "/access/v1/evaluation"
    if batch:
        path, body = "/access/v1/evaluations", {**body, "evaluations": [{}, {}]}
    assert town.call("POST", path, json=body, auth=(app, town.secret)).status_code == 200


def raised(town: World) -> list[tuple[str, list[str]]]:
    """Rule and duties of each control that was told of."""
    now = datetime.now(UTC) + timedelta(seconds=1)
    index_new(town.database, now)
    check(town.units, now, ZONE)
    with town.database.read() as connection:
        found = connection.execute(select(Alarm.detail).where(Alarm.rule == "mitigation-used")).scalars()
        return [(one["rule"], one["duties"]) for one in found]


@pytest.mark.parametrize("batch", [False, True])
def test_a_control_is_told_of_once_both_duties_were_performed(town: World, batch: bool) -> None:
    user, owner = town.person("branch"), town.person("watcher")
    with town.unit() as unit:
        persons = {one: unit.db.get_one(User, one).person_id for one in (user, owner)}
        wanted = MitigationInput(
            person_id=persons[user],
            rule="P13",
            control="weekly review",
            owner_person_id=persons[owner],
            reason="a branch of two",
            valid_until=unit.now + timedelta(days=30),
        )
        mitigate(unit, wanted)
    town.join(user, "cashiers", "accountants")
    act(town, user, PAY, batch=batch)
    act(town, user, POST, intent="ask", batch=batch)
    assert raised(town) == [], "one duty performed, the other only asked about"
    act(town, user, POST, batch=batch)
    [(rule, duties)] = raised(town)
    assert (rule, sorted(duties)) == ("P13", ["erp:voucher:post", "expense:cashier"])
    assert len(raised(town)) == 1, "told once"


def test_nobody_else_is_told_of(town: World) -> None:
    cashier, accountant = town.person("casher", "cashiers"), town.person("booker", "accountants")
    act(town, cashier, PAY)
    act(town, accountant, POST)
    assert raised(town) == []
