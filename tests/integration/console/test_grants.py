"""Assignments, rights to grant, administration roles and separated duties, in the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from identity.core.secrets import new_id
from identity.people.service_groups import get_group
from identity.roles.models import Assignment
from tests.integration.console.conftest import Console

BY_HAND = {"reason": "asked for by the head", "reference": "T-1"}


def ids(page: str, pattern: str) -> list[str]:
    return re.findall(pattern, page)


@pytest.mark.case("PE-01", "PE-02")
def test_a_departments_administrator_grants_within_his_rights_and_sees_nothing_else(console: Console) -> None:
    console.person("wu", "staff")
    target = console.person("qian", "staff")
    security = console.visitor("secadmin")
    assert console.visitor("wu").get("/admin/assignments").status_code == 403
    form = {"login": "wu", "powers": "assign", "roles": "expense:employee", "max_days": "30", **BY_HAND}
    assert security.post("/admin/grants", **form).status_code == 303
    assert "expense:employee" in security.get("/admin/grants").text

    delegate = console.visitor("wu")
    assert delegate.get("/admin/assignments").status_code == 200
    for path in ("/admin/users", "/admin/mappings", "/admin/grants", "/admin/duties", "/admin/roles"):
        assert delegate.get(path).status_code == 403, path
    until = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%d")
    wanted = {"login": "qian", "role": "expense:employee", "valid_until": until, **BY_HAND}
    assert delegate.post("/admin/assignments", **wanted).status_code == 303
    for other in ({"role": "expense:approver"}, {"valid_until": ""}, {"login": "wu"}):
        assert delegate.post("/admin/assignments", **{**wanted, **other}).status_code == 403, other
    page = delegate.get("/admin/assignments").text
    assert "qian" in page
    [assignment] = ids(page, r"/admin/assignments/([0-9a-f-]{36})/revoke")
    assert delegate.post(f"/admin/assignments/{assignment}/revoke", **BY_HAND).status_code == 403
    assert security.post(f"/admin/assignments/{assignment}/revoke", **BY_HAND).status_code == 303
    assert console.decide(target, "approve", "BX-1")["decision"] is False
    [grant] = ids(security.get("/admin/grants").text, r"/admin/grants/([0-9a-f-]{36})/revoke")
    assert security.post(f"/admin/grants/{grant}/revoke", **BY_HAND).status_code == 303
    assert delegate.get("/admin/assignments").status_code == 403


@pytest.mark.case("PE-09")
def test_an_administration_role_is_proposed_by_one_and_approved_by_another(console: Console) -> None:
    console.person("sun")
    security, system = console.visitor("secadmin"), console.visitor("sysadmin")
    wanted = {"login": "sun", "role": "tessera:audit-admin", "action": "assign", **BY_HAND}
    assert security.post("/admin/administrators", **wanted).status_code == 303
    assert security.post("/admin/administrators", **wanted).status_code == 409
    [proposal] = set(ids(security.get("/admin/administrators").text, r"/admin/administrators/([0-9a-f-]{36})"))
    assert security.post(f"/admin/administrators/{proposal}", answer="approve", **BY_HAND).status_code == 403
    assert f"/admin/administrators/{proposal}" in system.get("/admin/administrators").text
    assert system.post(f"/admin/administrators/{proposal}", answer="nonsense", **BY_HAND).status_code == 400
    assert system.post(f"/admin/administrators/{proposal}", answer="approve", **BY_HAND).status_code == 303
    assert system.post(f"/admin/administrators/{proposal}", answer="approve", **BY_HAND).status_code == 409
    assert console.visitor("sun").get("/admin/audit").status_code == 200
    taken = {**wanted, "action": "revoke"}
    answer = security.post("/admin/administrators", **taken)
    assert answer.headers["Location"] == "/admin/administrators"
    [proposal] = set(ids(security.get("/admin/administrators").text, r"/admin/administrators/([0-9a-f-]{36})"))
    assert system.post(f"/admin/administrators/{proposal}", answer="approve", **BY_HAND).status_code == 303


def test_a_form_that_is_not_complete_is_a_400_and_names_the_field(console: Console) -> None:
    security = console.visitor("secadmin")
    cases = [
        ("/admin/assignments", {"login": "zhang", "role": "nonsense", **BY_HAND}, 400),
        ("/admin/assignments", {"login": "zhang", "role": "expense:employee", "limit": "1e9", **BY_HAND}, 400),
        ("/admin/assignments", {"login": "zhang", "role": "expense:employee"}, 400),
        ("/admin/assignments", {"login": "nobody", "role": "expense:employee", **BY_HAND}, 404),
        ("/admin/assignments", {"holder": "planet|x", "role": "expense:employee", **BY_HAND}, 400),
        ("/admin/grants", {"login": "zhang", "roles": "expense:*", **BY_HAND}, 400),
        ("/admin/grants", {"login": "zhang", "powers": "assign", "roles": "tessera:*", **BY_HAND}, 403),
        ("/admin/administrators", {"login": "zhang", "role": "expense:employee", **BY_HAND}, 400),
        ("/admin/duties/controls", {"login": "zhang", "owner": "li", "rule": "P13", "control": "x", **BY_HAND}, 400),
    ]
    for path, form, status in cases:
        answer = security.post(path, **form)
        assert answer.status_code == status, (path, form, answer.status_code)


def test_only_people_are_shown_as_administrators(console: Console) -> None:
    """No service gives a group such a role; a row that does is nobody's."""
    with console.unit() as unit:
        row = {"holder_id": get_group(unit, "staff").id, "role_key": "tessera:audit-admin", "granted_by": "nobody"}
        unit.facts.add(Assignment(assignment_id=new_id(), holder_kind="group", **row))
    page = console.visitor("secadmin").get("/admin/administrators")
    assert page.status_code == 200
    assert "auditor" in page.text


def test_a_control_is_accepted_reported_and_ended(console: Console) -> None:
    security = console.visitor("secadmin")
    until = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%d")
    form = {
        "login": "zhang",
        "owner": "li",
        "rule": "P13",
        "control": "weekly review",
        "valid_until": until,
        **BY_HAND,
    }
    assert security.post("/admin/duties/controls", **form).status_code == 303
    assert security.post("/admin/duties/controls", **{**form, "owner": "zhang"}).status_code == 403
    assert security.post("/admin/duties/report").status_code == 303
    page = security.get("/admin/duties").text
    assert "weekly review" in page
    assert "P01" in page
    [control] = ids(page, r"/admin/duties/controls/([0-9a-f-]{36})/end")
    assert security.post(f"/admin/duties/controls/{control}/end", **BY_HAND).status_code == 303
    assert "weekly review" not in security.get("/admin/duties").text
