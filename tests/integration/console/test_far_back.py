"""What an auditor looks for lies behind very many records that hardly fit: the search says how far back it looked and
goes on, and what is handed over is whole."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlencode

import orjson
import pytest
from sqlalchemy import delete, text

from identity.audit.leads import PARTS
from identity.audit.models import AuditFind
from identity.core.db import to_micros
from identity.core.record import Record
from identity.core.secrets import new_id
from tests.audit.proof import Proof
from tests.integration.console.conftest import Console
from tests.integration.console.test_evidence import PAGE, WHY, fetched, files, work

MANY = sum(PARTS) + 500
_COLUMNS = 'record_id, item, at, "class", kind, result, reason, actor, application, resource_id, request_id'
_REST = "'change', 'people.user.changed', 'success', '', 'test', 'expense', 'near', 'filler'"
FILL = {
    "sqlite": f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) "
    f"INSERT INTO audit_find ({_COLUMNS}) SELECT 'f1ea' || printf('%028x', n), 0, :at + n, {_REST} FROM c",
    "postgresql": f"INSERT INTO audit_find ({_COLUMNS}) SELECT ('f1ea' || lpad(to_hex(n), 28, '0'))::uuid, 0, "
    "timestamptz 'epoch' + :at * interval '1 microsecond' + n * interval '1 microsecond', "
    f"{_REST} FROM generate_series(1, {MANY}) AS n",
}


@dataclass
class Sought:
    """The id of a record that lies behind more rows of its application than one search looks through, and the form that
    finds it alone."""

    id: str
    form: dict[str, str]


@pytest.fixture
def sought(console: Console) -> Iterator[Sought]:
    form = {"application": "expense", "reason": f"far_back_{new_id().hex}"}
    wanted = Record(kind="people.user.created", result="success", resource_id="far-0", **form)
    with console.unit() as unit:
        unit.record(wanted)
        at = to_micros(unit.now)
    console.find()
    with console.database.write() as connection:
        connection.execute(text(FILL[connection.dialect.name]), {"at": at})
    yield Sought(str(wanted.id), form)
    with console.database.write() as connection:
        connection.execute(delete(AuditFind).where(AuditFind.request_id == "filler"))


def onward(page: str) -> str:
    """Where the page's one link to older records goes."""
    [address] = re.findall(r'<a[^>]* rel="next" href="([^"]+)"', page)
    return f"/admin/audit{unescape(address)}"


def test_a_search_that_stopped_early_says_so_and_goes_on(console: Console, sought: Sought) -> None:
    auditor = console.visitor("auditor")
    page = auditor.get(f"/admin/audit?{urlencode(sought.form)}").text
    assert f"/admin/audit/{sought.id}" not in page
    assert "Nothing was found so far" in page
    assert "Searched back to 20" in page
    assert "Go on searching older records" in page
    assert "Export as CSV" in page
    older = auditor.get(onward(page)).text
    assert f"/admin/audit/{sought.id}" in older
    assert "Searched back to" not in older
    assert 'rel="next"' not in older
    searched = [one["data"]["rows"] for one in console.records() if one["kind"] == "audit.record.searched"]
    assert searched[-2:] == [0, 1]


def test_it_says_so_in_chinese(console: Console, sought: Sought) -> None:
    auditor = console.visitor("auditor")
    page = auditor.browser.client.get(
        f"/admin/audit?{urlencode(sought.form)}", base_url="http://localhost:8000", headers={"Accept-Language": "zh-CN"}
    ).text
    assert "目前尚未找到记录" in page
    assert "已检索至 20" in page
    assert "继续检索更早的记录" in page


def test_an_end_without_anything_older_says_that(console: Console, sought: Sought) -> None:
    auditor = console.visitor("auditor")
    page = auditor.get("/admin/audit?application=expense&reason=nowhere").text
    assert "Nothing was found so far" in page
    end = auditor.get(onward(page)).text
    assert "Nothing older was found" in end
    assert 'rel="next"' not in end


def test_an_export_and_a_pack_of_it_are_whole(console: Console, sought: Sought) -> None:
    auditor = console.visitor("auditor")
    lines = auditor.post("/admin/audit/export", format="jsonl", **sought.form)
    assert [orjson.loads(line)["id"] for line in lines.data.splitlines()] == [sought.id]
    lines.close()
    table = auditor.post("/admin/audit/export", format="csv", **sought.form)
    assert sought.id in table.data.decode()
    table.close()
    form = {f"find_{name}": value for name, value in sought.form.items()}
    assert auditor.post(PAGE, **form, **WHY).status_code == 303
    Proof(console).seal()
    assert work(console) == 1
    with zipfile.ZipFile(io.BytesIO(fetched(auditor, files(auditor)[0])[1])) as pack:
        assert [orjson.loads(line)["id"] for line in pack.read("records.jsonl").splitlines()] == [sought.id]
