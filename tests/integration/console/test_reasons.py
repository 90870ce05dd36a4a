"""Whoever changes something in the console says why, and may name the request for it; the record of it has both."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest

from tests.integration.console.conftest import Console, Visitor
from tests.integration.console.test_route_walk import routes

WHY = {"reason": "asked for by the head", "reference": "变更-2026-0042"}
# What changes nothing that anybody holds: runs, answers of one's own, and what one reads.
WITHOUT = {
    "/admin/sessions/<uuid:session_id>/end": "ends a session, changes no right",
    "/admin/sync/<code>": "runs what is set; what it may change is guarded and reviewed",
    "/admin/sync/runs/<uuid:run_id>/retry": "runs again what is set; what it may change is guarded and reviewed",
    "/admin/policy/checks": "shows what a change would do",
    "/admin/policy/drafts/<uuid:draft_id>/edit": "a draft changes no right; publishing it has a reason",
    "/admin/policy/drafts/<uuid:draft_id>/rebase": "a draft changes no right",
    "/admin/policy/drafts/<uuid:draft_id>/withdraw": "a draft changes no right",
    "/admin/mappings/preview": "shows what a change would do",
    "/admin/duties/report": "looks again",
    "/admin/audit/export": "reads",
    "/admin/audit/saved": "a search of one's own",
    "/admin/audit/saved/<uuid:search_id>/forget": "a search of one's own",
    "/admin/reports": "reads",
    "/admin/alarms/<uuid:alarm_id>/seen": "says that it was read",
}


def views(console: Console) -> dict[str, Any]:
    """Every route of the console that takes a POST, with its function."""
    posts = {rule for method, rule in routes(console, "permission") if method == "POST"}
    found = {}
    for one in console.app.url_map.iter_rules():
        if one.rule in posts and "POST" in (one.methods or ()):
            found[one.rule] = console.app.view_functions[one.endpoint]
    return found


def test_every_change_takes_a_reason_and_a_reference_and_hands_both_on(console: Console) -> None:
    found = views(console)
    assert set(WITHOUT) <= set(found)
    for rule, view in found.items():
        tree = ast.parse(inspect.getsource(view))
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        takes = "reason_given" in names
        assert takes is (rule not in WITHOUT), f"{rule} changes something without a reason, or is listed for nothing"
        if takes:
            assert {"why", "reference"} <= set(names), f"{rule} drops the reason or the reference"


@pytest.fixture
def security(console: Console) -> Visitor:
    return console.visitor("secadmin")


def ids(page: str, pattern: str) -> list[str]:
    return re.findall(pattern.replace("ID", "([0-9a-f-]{36})"), page)


def told(console: Console, before: int, *kinds: str) -> None:
    """Since then these kinds were recorded, each with reason and reference."""
    new = console.records()[before:]
    changes = [
        one for one in new if one["result"] == "success" and one["kind"].startswith(("roles.", "people.", "apps."))
    ]
    assert {one["kind"] for one in changes} >= set(kinds)
    for one in changes:
        assert (one.get("why"), one.get("reference")) == (WHY["reason"], WHY["reference"]), one["kind"]


def change(console: Console, visitor: Visitor, path: str, *kinds: str, **form: str) -> None:
    """Refused without a reason; with one it is done and recorded."""
    assert visitor.post(path, **form).status_code == 400, f"{path} without a reason"
    before = len(console.records())
    answer = visitor.post(path, **form, **WHY)
    assert answer.status_code in {200, 303}, (path, answer.status_code, answer.text[-1_500:])
    told(console, before, *kinds)


def test_changes_of_users_and_applications(console: Console, security: Visitor) -> None:
    user = console.person("reasoned", "staff")
    state = f"/admin/users/{user}/state"
    change(console, security, state, "people.user.disabled", state="disabled")
    change(console, security, state, "people.user.enabled", state="active")
    for wanted in ("disabled", "active"):
        page = security.get("/admin/applications/expense").text
        version = re.search(r'name="row_version" value="(\d+)"', page)
        assert version is not None
        form = {"status": wanted, "row_version": version[1]}
        change(console, security, "/admin/applications/expense/status", "apps.application.changed", **form)
    change(console, security, "/admin/applications/expense/secret", "apps.secret.set", client_id="expense")


def test_changes_of_roles_and_of_rights_to_grant(console: Console, security: Visitor) -> None:
    console.person("granted", "staff")
    form = {"login": "granted", "role": "expense:approver"}
    change(console, security, "/admin/assignments", "roles.assignment.added", **form)
    page = security.get("/admin/assignments").text
    [made] = ids(page, "/admin/assignments/ID/revoke")
    change(console, security, f"/admin/assignments/{made}/revoke", "roles.assignment.revoked")
    grant = {"login": "granted", "powers": "assign", "roles": "expense:employee", "max_days": "30"}
    change(console, security, "/admin/grants", "roles.admin_grant.added", **grant)
    [made] = ids(security.get("/admin/grants").text, "/admin/grants/ID/revoke")
    change(console, security, f"/admin/grants/{made}/revoke", "roles.admin_grant.revoked")
    wanted = {"login": "granted", "role": "tessera:audit-admin", "action": "assign"}
    change(console, security, "/admin/administrators", "roles.proposal.made", **wanted)
    made = ids(security.get("/admin/administrators").text, "/admin/administrators/ID")[-1]
    system = console.visitor("sysadmin")
    decided = ("roles.proposal.decided", "roles.assignment.added")
    change(console, system, f"/admin/administrators/{made}", *decided, answer="approve")


def test_a_reference_may_be_left_out(console: Console, security: Visitor) -> None:
    user = console.person("without", "staff")
    assert security.post(f"/admin/users/{user}/state", state="disabled", reason="he left").status_code == 303
    [one] = [one for one in console.records() if one["kind"] == "people.user.disabled" and one["user"] == str(user)]
    assert one["why"] == "he left"
    assert "reference" not in one
