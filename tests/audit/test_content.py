"""What every record says, whatever made it, and of whom; and that nothing in the product takes one back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from identity.audit.kinds import CLASSES, Kind, class_of
from tests.integration.console.conftest import Console

WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
RESULTS = {"success", "permit", "deny", "refused", "failed"}
KNOWN = {
    *("id", "at", "kind", "v", "actor", "ip", "user_agent", "request_id", "result", "reason", "trace_id"),
    *("user", "person", "session", "application", "resource_type", "resource_id", "action", "intent"),
    *("policy_version", "facts_revision", "rules", "data", "before", "after", "input", "personal", "why", "reference"),
}


@pytest.fixture
def office(database_url: str, tmp_path: Path) -> Iterator[Console]:
    made = Console(database_url, tmp_path)
    yield made
    made.close()


def check(body: dict[str, Any]) -> None:
    assert set(body) <= KNOWN, body
    UUID(body["id"])
    assert WHEN.fullmatch(body["at"])
    assert abs(datetime.fromisoformat(body["at"]) - datetime.now(UTC)) < timedelta(hours=1)
    assert class_of(Kind(body["kind"])) in CLASSES
    assert body["v"] == 1
    assert body["result"] in RESULTS
    assert body["request_id"]
    assert set(body["actor"]) <= {"kind", "id", "name", "person"}
    assert body["actor"]["kind"] in {"user", "application", "system", "anonymous"}
    assert body["actor"]["id"] or body["actor"]["kind"] == "anonymous"
    assert {"ip", "user_agent"} <= set(body)


@pytest.mark.case("AU-06")
def test_every_record_says_who_when_from_where_and_with_what_outcome(office: Console) -> None:
    admin = office.visitor("secadmin")
    why = {"reason": "left", "reference": "C-7"}
    path = f"/admin/users/{office.people['zhang']}/state"
    assert admin.post(path, state="disabled", **why).status_code == 303
    office.decide(office.people["li"], "read", "c1")
    office.decide(office.people["zhang"], "read", "c1")
    office.browser().sign_in("zhang")
    records = office.records()
    for body in records:
        check(body)
    [changed] = [one for one in records if one["kind"] == "people.user.disabled"]
    assert changed["actor"]["kind"] == "user"
    assert UUID(changed["actor"]["person"])
    assert UUID(changed["session"])
    assert (changed["user"], changed["why"], changed["reference"]) == (str(office.people["zhang"]), "left", "C-7")
    [application] = [
        one for one in records if one["kind"] == "apps.application.created" and one["application"] == "expense"
    ]
    assert not re.search("secret|hash|password", str(application["after"]))


def ask(office: Console, action: str, **context: str) -> dict[str, Any]:
    """What the record says of a decision about `li`, asked for from elsewhere."""
    body = {
        "subject": {"type": "user", "id": office.sub(office.people["li"])},
        "action": {"name": action},
        "resource": {"type": "claim", "id": "asked"},
        "context": context,
    }
    answer = office.call(
        "POST",
        "/access/v1/evaluation",
        json=body,
        auth=("expense", office.secret),
        headers={"User-Agent": "expense/1.0", "X-Request-ID": "r-1"},
        environ_overrides={"REMOTE_ADDR": "192.0.2.9"},
    )
    assert answer.status_code == 200
    [record] = [one for one in office.records() if one["id"] == answer.json["context"]["id"]]  # type: ignore[index]
    return record


@pytest.mark.case("AU-06")
def test_a_record_says_where_its_request_came_from(office: Console) -> None:
    record = ask(office, "read")
    check(record)
    assert (record["ip"], record["user_agent"], record["request_id"]) == ("192.0.2.9", "expense/1.0", "r-1")
    assert (record["actor"]["kind"], record["actor"]["id"]) == ("application", "expense")


@pytest.mark.case("AU-08")
def test_whoever_acts_for_another_is_recorded_with_him(office: Console) -> None:
    record = ask(office, "submit", intent="perform", on_behalf_of=office.sub(office.people["zhang"]))
    assert record["user"] == str(office.people["li"])
    assert record["input"]["stands_for"]["user"] == str(office.people["zhang"])
    assert record["person"] != record["input"]["stands_for"]["person"]


@pytest.mark.case("AU-02")
def test_no_route_changes_or_removes_a_record(office: Console) -> None:
    found = {
        (method, rule.rule)
        for rule in office.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        if "audit" in rule.rule
    }
    assert found == {
        ("POST", "/admin/audit/evidence"),
        ("POST", "/admin/audit/export"),
        ("POST", "/admin/audit/saved"),
        ("POST", "/admin/audit/saved/<uuid:search_id>/forget"),
    }
    before = {one["id"]: one for one in office.records()}
    for login in ("auditor", "secadmin", "sysadmin"):
        visitor = office.visitor(login)
        record = next(iter(before))
        for path in (f"/admin/audit/{record}", f"/admin/audit/{record}/delete", "/admin/audit/purge"):
            assert visitor.post(path, _method="DELETE").status_code in {403, 404, 405}
    after = {one["id"]: one for one in office.records()}
    assert before.items() <= after.items()
