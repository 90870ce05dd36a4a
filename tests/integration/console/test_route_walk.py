"""Every page that needs a session × everybody who may knock (attack case CO-01)."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from tests.integration.console.conftest import ADMINISTRATORS, Console

ANY, READERS, SECURITY, AUDIT, SYSTEM = (
    frozenset(ADMINISTRATORS),
    frozenset({"security", "audit"}),
    frozenset({"security"}),
    frozenset({"audit"}),
    frozenset({"system"}),
)

# Who may; a route of the console that does not stand here fails the walk.
CONSOLE: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/admin"): ANY,
    ("GET", "/admin/users"): ANY,
    ("GET", "/admin/users/<uuid:user_id>"): ANY,
    ("POST", "/admin/users/<uuid:user_id>/state"): SECURITY,
    ("POST", "/admin/users/<uuid:user_id>/factor/remove"): SECURITY,
    ("POST", "/admin/users/<uuid:user_id>/profile"): SECURITY,
    ("POST", "/admin/sessions/<uuid:session_id>/end"): frozenset({"system", "security"}),
    ("GET", "/admin/groups"): ANY,
    ("GET", "/admin/groups/<uuid:group_id>"): ANY,
    ("GET", "/admin/sync"): ANY,
    ("POST", "/admin/sync/<code>"): SYSTEM,
    ("GET", "/admin/sync/<code>/probe"): SYSTEM,
    ("GET", "/admin/sync/<code>/try"): SYSTEM,
    ("POST", "/admin/sync/<code>/resume"): SYSTEM,
    ("GET", "/admin/sync/<code>/write-back"): ANY,
    ("POST", "/admin/sync/<code>/write-back"): SYSTEM,
    ("POST", "/admin/sync/<code>/write-back/<uuid:item_id>"): SYSTEM,
    ("GET", "/admin/sync/runs/<uuid:run_id>"): ANY,
    ("GET", "/admin/sync/runs/<uuid:run_id>/plan.csv"): ANY,
    ("POST", "/admin/sync/runs/<uuid:run_id>/review"): SYSTEM,
    ("POST", "/admin/sync/runs/<uuid:run_id>/decide"): SYSTEM,
    ("POST", "/admin/sync/runs/<uuid:run_id>/retry"): SYSTEM,
    ("GET", "/admin/roles"): READERS,
    ("GET", "/admin/roles/<path:key>"): READERS,
    ("GET", "/admin/mappings"): READERS,
    ("GET", "/admin/mappings/new"): SECURITY,
    ("GET", "/admin/mappings/<row_id>/edit"): SECURITY,
    ("POST", "/admin/mappings/preview"): SECURITY,
    ("POST", "/admin/mappings"): SECURITY,
    ("GET", "/admin/assignments"): READERS,
    ("POST", "/admin/assignments"): SECURITY,
    ("POST", "/admin/assignments/<uuid:assignment_id>/revoke"): SECURITY,
    ("GET", "/admin/grants"): READERS,
    ("POST", "/admin/grants"): SECURITY,
    ("POST", "/admin/grants/<uuid:grant_id>/revoke"): SECURITY,
    ("GET", "/admin/administrators"): ANY,
    ("POST", "/admin/administrators"): SECURITY,
    ("POST", "/admin/administrators/<uuid:proposal_id>"): frozenset({"system", "security"}),
    ("GET", "/admin/duties"): READERS,
    ("POST", "/admin/duties/report"): SECURITY,
    ("POST", "/admin/duties/held/<uuid:gain_id>/release"): SECURITY,
    ("POST", "/admin/duties/controls"): SECURITY,
    ("POST", "/admin/duties/controls/<uuid:control_id>/end"): SECURITY,
    ("GET", "/admin/policy"): READERS,
    ("GET", "/admin/policy/versions/<int:version>"): READERS,
    ("POST", "/admin/policy/versions/<int:version>/restore"): SECURITY,
    ("POST", "/admin/policy/second-person"): SECURITY,
    ("POST", "/admin/policy/second-person/decide"): SECURITY,
    ("POST", "/admin/policy/checks"): READERS,
    ("GET", "/admin/policy/checks/<uuid:check_id>"): READERS,
    ("GET", "/admin/policy/checks/<uuid:check_id>/file"): READERS,
    ("POST", "/admin/policy/drafts"): SECURITY,
    ("GET", "/admin/policy/drafts/<uuid:draft_id>"): READERS,
    ("GET", "/admin/policy/drafts/<uuid:draft_id>/rules"): READERS,
    ("GET", "/admin/policy/drafts/<uuid:draft_id>/mapping"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/edit"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/role"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/rebase"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/discard"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/propose"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/withdraw"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/publish"): SECURITY,
    ("POST", "/admin/policy/drafts/<uuid:draft_id>/decide"): SECURITY,
    ("GET", "/admin/holdings"): READERS,
    ("GET", "/admin/holdings/file"): READERS,
    ("GET", "/admin/applications"): ANY,
    ("GET", "/admin/applications/<code>"): ANY,
    ("POST", "/admin/applications/<code>/status"): SECURITY,
    ("POST", "/admin/applications/<code>/secret"): SECURITY,
    ("GET", "/admin/audit"): AUDIT,
    ("GET", "/admin/audit/<uuid:record_id>"): AUDIT,
    ("GET", "/admin/audit/<uuid:record_id>/proof"): AUDIT,
    ("GET", "/admin/audit/<uuid:record_id>/why"): AUDIT,
    ("GET", "/admin/explain"): READERS,
    ("GET", "/admin/audit/proof"): AUDIT,
    ("POST", "/admin/audit/export"): AUDIT,
    ("GET", "/admin/audit/evidence"): AUDIT,
    ("POST", "/admin/audit/evidence"): AUDIT,
    ("GET", "/admin/audit/evidence/verifier"): AUDIT,
    ("GET", "/admin/audit/evidence/<uuid:pack_id>/file"): AUDIT,
    ("POST", "/admin/audit/saved"): AUDIT,
    ("POST", "/admin/audit/saved/<uuid:search_id>/forget"): AUDIT,
    ("GET", "/admin/reports"): AUDIT,
    ("POST", "/admin/reports"): AUDIT,
    ("GET", "/admin/reports/<uuid:run_id>"): AUDIT,
    ("GET", "/admin/reports/<uuid:run_id>/file"): AUDIT,
    ("GET", "/admin/alarms"): AUDIT,
    ("POST", "/admin/alarms/<uuid:alarm_id>/seen"): AUDIT,
}
# Everybody who is signed in, for himself.
OWN = {
    ("GET", "/"),
    ("GET", "/account"),
    ("POST", "/account/consents/withdraw"),
    ("GET", "/account/factor"),
    ("POST", "/account/factor"),
    ("POST", "/account/factor/remove"),
    ("POST", "/account/password"),
    ("POST", "/account/recovery"),
    ("POST", "/account/sessions/end"),
}


def routes(console: Console, kind: str) -> set[tuple[str, str]]:
    found = set()
    for rule in console.app.url_map.iter_rules():
        protection = getattr(console.app.view_functions[rule.endpoint], "protection", None)
        if protection is not None and protection.kind == kind:
            found |= {(method, rule.rule) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return found


def address(rule: str) -> str:
    """The route with ids of things that are not there: who is let in gets 404, or a form's 400."""
    nothing = str(UUID(int=7))
    rule = re.sub(r"<uuid:\w+>", nothing, rule)
    return (
        rule.replace("<path:key>", "no:role")
        .replace("<row_id>", "none")
        .replace("<code>", "nothing")
        .replace("<int:version>", "7")
    )


def test_co_01_every_route_of_the_console_stands_in_the_table(console: Console) -> None:
    assert routes(console, "permission") == set(CONSOLE)
    assert routes(console, "signed_in") == OWN


@pytest.mark.parametrize("role", [*ADMINISTRATORS, "employee", "nobody"])
def test_co_01_a_route_lets_in_those_of_the_table_and_nobody_else(console: Console, role: str) -> None:
    login = {**ADMINISTRATORS, "employee": "zhang", "nobody": None}[role]
    visitor = console.visitor(login)
    for (method, rule), allowed in CONSOLE.items():
        answer = visitor.get(address(rule)) if method == "GET" else visitor.post(address(rule))
        where = f"{role} {method} {rule}: {answer.status_code} {answer.headers.get('Location', '')}"
        if role == "nobody":
            assert answer.status_code == 303, where
            assert answer.headers["Location"].startswith("/console/enter"), where
        elif role in allowed:
            assert answer.status_code in {200, 303, 400, 404}, where
            assert "/console/enter" not in answer.headers.get("Location", ""), where
        else:
            assert answer.status_code == 403, where


def test_a_session_of_the_portal_opens_nothing_of_the_console(console: Console) -> None:
    admin = console.visitor("secadmin", start="/")
    assert admin.get("/account").status_code == 200
    answer = admin.get("/admin/users")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/console/enter")


def test_a_session_of_the_console_opens_nothing_of_the_portal(console: Console) -> None:
    answer = console.visitor("secadmin").get("/account")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/portal/enter")


def test_what_changes_people_or_rules_asks_for_a_fresh_sign_in(console: Console) -> None:
    visitor = console.visitor("secadmin")
    with console.later(minutes=6):
        assert visitor.get("/admin/users").status_code == 200
        form = {"state": "disabled", "reason": "x", "back": f"/admin/users/{console.people['zhang']}"}
        answer = visitor.post(f"/admin/users/{console.people['zhang']}/state", **form)
        assert answer.status_code == 303
        location = answer.headers["Location"]
        assert location.startswith("/console/enter?next=/admin/users/")
        assert location.endswith("again=1")
        # Nothing was done, and a session of the person would still live.
        assert "active" in visitor.get(f"/admin/users/{console.people['zhang']}").text
