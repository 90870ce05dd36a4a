"""What an auditor does in the console: hand over a search, keep it, make a report, see an alarm."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson

from identity.alarms.check import check
from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.unit import Units
from tests.integration.console.conftest import Console


def test_a_search_is_handed_over_and_the_record_holds_its_hash(console: Console) -> None:
    console.find()
    auditor = console.visitor("auditor")
    lines = auditor.post("/admin/audit/export", kind="people.user.created", format="jsonl")
    assert lines.status_code == 200
    assert {orjson.loads(line)["kind"] for line in lines.data.splitlines()} == {"people.user.created"}
    lines.close()
    table = auditor.post("/admin/audit/export", kind="people.user.created", format="csv")
    assert table.headers["Content-Disposition"].startswith("attachment")
    table.close()
    done = [one["data"] for one in console.records() if one["kind"] == "audit.record.exported"]
    assert [one["format"] for one in done[-2:]] == ["jsonl", "csv"]
    assert lines.headers["Digest"] == f"sha-256={done[-2]['sha256']}"
    assert auditor.post("/admin/audit/export", format="exe").status_code == 400


def test_a_search_is_kept_under_a_name_and_dropped(console: Console) -> None:
    console.find()
    auditor = console.visitor("auditor")
    assert auditor.post("/admin/audit/saved", name="Denied", result="deny", shared="yes").status_code == 303
    page = auditor.get("/admin/audit?result=success").text
    assert 'href="/admin/audit?result=deny"' in page
    [address] = re.findall(r"/admin/audit/saved/[0-9a-f-]+/forget", page)
    assert auditor.post(address).status_code == 303
    assert "Denied" not in auditor.get("/admin/audit?result=success").text
    assert auditor.post("/admin/audit/saved", name="", result="deny").status_code == 400


def test_a_report_is_made_read_and_downloaded(console: Console) -> None:
    console.find()
    auditor = console.visitor("auditor")
    made = auditor.post("/admin/reports", report="people-roles", days="31")
    page = auditor.get(made.headers["Location"])
    assert page.status_code == 200
    assert "zhang" in page.text
    file = auditor.get(f"{made.headers['Location']}/file")
    assert file.content_type == "text/csv; charset=utf-8"
    assert made.headers["Location"] in auditor.get("/admin/reports").text
    assert auditor.post("/admin/reports", report="nonsense").status_code == 404
    assert auditor.post("/admin/reports", report="leavers", days="5").status_code == 400


def test_an_alarm_is_shown_and_acknowledged(console: Console) -> None:
    units: Units = console.things[Units]
    with console.unit() as unit:
        for _ in range(25):
            data = {"login": "alarm-login"}
            unit.record(Record(kind=Kind.SESSION_REFUSED, result="refused", reason="wrong_password", data=data))
    console.find()
    assert check(units, datetime.now(UTC), ZoneInfo("Asia/Shanghai")) >= 1
    auditor = console.visitor("auditor")
    page = auditor.get("/admin/alarms").text
    assert "login:alarm-login" in page
    for address in re.findall(r"/admin/alarms/[0-9a-f-]+/seen", page):
        assert auditor.post(address).status_code == 303
    assert "/seen" not in auditor.get("/admin/alarms").text
