"""Standard reports: their rows are right, their file is safe to open, and they say what they are about."""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.audit.csv import BOM, lines
from identity.audit.index import index_new
from identity.core.errors import NotFound
from identity.core.feed import Feed
from identity.core.record import Actor
from identity.people.service import set_user_state
from identity.reports.catalogue import REPORTS
from identity.reports.inputs import ScheduleInput
from identity.reports.models import ReportRun
from identity.reports.service import due, get, make, put_schedule
from identity.roles.inputs import AssignmentInput
from identity.roles.service_assignments import assign
from tests.world import World


def current(world: World) -> Snapshot:
    world.things[Feed].catch_up()
    snapshot: Snapshot = world.things[Access].snapshot()
    return snapshot


def made(world: World, code: str, days: int = 31) -> tuple[ReportRun, list[dict[str, str]]]:
    index_new(world.database, datetime.now(UTC))
    snapshot = current(world)
    with world.unit() as unit:
        run = make(unit, snapshot, code, days, UTC)
    rows = list(csv.DictReader(io.StringIO(run.content.removeprefix(BOM), newline="")))
    assert len(rows) == run.row_count
    return run, rows


def test_people_and_their_roles_with_the_way_to_each(world: World) -> None:
    world.person("zhang", "staff", "leads")
    run, rows = made(world, "people-roles")
    [approver] = [row for row in rows if row["Role"] == "approver"]
    assert approver["Login"] == "zhang"
    assert approver["Limit"] == "5000.00 CNY"
    assert approver["Origin"] == "group:leads"
    assert run.facts_revision == current(world).facts_revision
    assert run.sha256 == hashlib.sha256(run.content.encode()).hexdigest()


def test_a_leaver_with_the_minutes_until_the_last_session_ended(world: World) -> None:
    person = world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    with world.unit() as unit:
        set_user_state(unit, person, "disabled", cause="left the company")
    _, rows = made(world, "leavers")
    assert [(row["Login"], row["Cause"], row["Sessions still open"]) for row in rows] == [
        ("zhang", "left the company", "1")
    ]


def test_dormant_accounts(world: World) -> None:
    world.person("zhang", "staff")
    world.person("li", "staff")
    world.browser().sign_in("li")
    _, rows = made(world, "dormant", days=30)
    assert rows == []
    with world.later(days=40):
        _, rows = made(world, "dormant", days=30)
        assert {row["Login"] for row in rows} == {"zhang", "li"}
        _, rows = made(world, "dormant", days=39)
    assert {row["Login"] for row in rows} == {"zhang", "li"}


def test_direct_grants_name_holder_giver_and_reason(world: World) -> None:
    person = world.person("zhang")
    with world.units.open(Actor.system("cli:test"), reason="stands in for li") as unit:
        assign(unit, AssignmentInput(holder_kind="user", holder_id=person, role="expense:approver", company="XH01"))
    _, rows = made(world, "direct-grants")
    [row] = rows
    assert (row["Holder"], row["Role"], row["Company"]) == ("zhang", "expense:approver", "XH01")
    assert (row["Granted by"], row["Reason given"]) == ("cli:test", "stands in for li")


def test_every_report_can_be_made_on_an_empty_installation_and_read_again(world: World) -> None:
    for code in REPORTS:
        run, _ = made(world, code)
        with world.unit() as unit:
            assert get(unit, run.id).content == run.content
    kinds = [one["kind"] for one in world.records()]
    assert kinds.count("reports.report.made") == kinds.count("reports.report.read") == len(REPORTS)
    with world.unit() as unit, pytest.raises(NotFound):
        make(unit, current(world), "nonsense", 1, UTC)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "＝1", "\r=1"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    whole = "".join(lines(["a"], [[text]], UTC))
    [row] = csv.DictReader(io.StringIO(whole.removeprefix(BOM), newline=""))
    assert row["a"] == f"'{text}"


def test_numbers_and_times_stay_what_they_are() -> None:
    row: list[Any] = [-5, None, datetime(2026, 11, 25, tzinfo=UTC), 'say "no"']
    assert list(lines("abcd", [row], UTC))[1] == '-5,,2026-11-25 00:00:00+00:00,"say ""no"""\r\n'


def test_a_schedule_reads_the_organisations_time(world: World) -> None:
    wanted = ScheduleInput(code="monthly", report="privileged", cron="0 8 1 * *", recipients=("audit@xinghe.example",))
    with world.unit() as unit:
        schedule = put_schedule(unit, wanted)
        schedule.created_at = datetime(2026, 11, 25, tzinfo=UTC)
        zone = world.settings.zone
        assert not due(schedule, datetime(2026, 11, 30, 23, 59, tzinfo=UTC), zone)
        assert due(schedule, datetime(2026, 12, 1, 0, 0, tzinfo=UTC), zone)
        schedule.last_made_at = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)
        assert not due(schedule, datetime(2026, 12, 2, tzinfo=UTC), zone)
    for wrong in ({"cron": "every day"}, {"report": "nonsense"}, {"recipients": ()}, {"recipients": ("a b@c",)}):
        with pytest.raises(ValueError, match="validation error"):
            ScheduleInput.model_validate({**wanted.model_dump(), **wrong})
