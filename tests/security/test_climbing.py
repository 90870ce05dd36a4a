"""What a session, a token or a credential allows is what its owner may do now, not what he might when it was made."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.apps.inputs import ApplicationInput
from identity.apps.models import Application
from identity.apps.service import put_application
from identity.people.inputs import GroupInput
from identity.people.service_groups import change_members, put_group
from identity.roles.inputs import AdminGrantInput
from identity.roles.service_admin_grants import add_admin_grant, revoke_admin_grant
from tests.integration.console.conftest import Visitor
from tests.security.town import DESK_API, Town


def leave(town: Town, user: UUID, name: str) -> None:
    with town.unit() as unit:
        group = put_group(unit, GroupInput(name=name, display_name=name))
        change_members(unit, group.id, remove=[user])
    town.fresh()


@pytest.mark.case("PE-08")
def test_a_token_carries_no_role_that_its_owner_has_lost(town: Town) -> None:
    browser, user = town.signed_in("staff", "leads")
    tokens = town.tokens(browser, scope="openid roles desk.read", resource=DESK_API)
    assert town.introspect(tokens["access_token"])["roles"] == ["clerk"]
    leave(town, user, "staff")
    assert town.introspect(tokens["access_token"])["roles"] == []
    answer = town.refresh(tokens["refresh_token"])
    assert (answer.status_code, (answer.json or {})["error"]) == (400, "invalid_grant")


@pytest.mark.case("PE-08")
def test_a_credential_is_as_good_as_the_rights_of_its_application_now(town: Town) -> None:
    _, user = town.someone()
    body: dict[str, Any] = {
        "subject": {"type": "user", "id": town.sub(user)},
        "action": {"name": "read"},
        "resource": {"type": "ticket"},
    }

    def search() -> int:
        return town.call("POST", "/access/v1/search/resource", json=body, auth=("desk", town.secret)).status_code

    assert search() == 403
    rights(town, "search")
    assert search() == 200
    rights(town)
    assert search() == 403


def rights(town: Town, *names: Any) -> None:
    with town.unit() as unit:
        row = unit.db.execute(select(Application).where(Application.code == "desk")).scalar_one()
        values = {name: getattr(row, name) for name in ApplicationInput.model_fields}
        put_application(unit, ApplicationInput.model_validate({**values, "rights": names}), managed_by="file")
    town.fresh()


@pytest.mark.case("PE-08")
def test_a_session_of_the_console_grants_no_more_than_its_owner_may_now(town: Town) -> None:
    login, user = town.someone()
    _, target = town.someone()
    wanted = {"holder_kind": "user", "holder": str(user), "powers": ["assign"], "roles": ["expense:*"]}
    with town.unit() as unit:
        grant_id = add_admin_grant(unit, AdminGrantInput.model_validate(wanted)).grant_id
    town.fresh()
    visitor = Visitor(town, login)
    form = {"holder": f"user|{target}", "role": "expense:approver", "reason": "cover"}
    page = visitor.get("/admin/assignments")
    assert page.status_code == 200
    with town.unit() as unit:
        revoke_admin_grant(unit, grant_id)
    town.fresh()
    assert visitor.post("/admin/assignments", **form).status_code == 403
    assert visitor.get("/admin/assignments").status_code == 403
    held = {one.grant.role for one in town.snapshot().users[target].derivations}
    assert "expense:approver" not in held
