"""Nobody who looks after people gets at an administrator's sign-in."""

from __future__ import annotations

from uuid import UUID, uuid4

import pyotp
import pytest

from identity.keys.keyring import Keyring
from identity.login import mfa
from identity.roles.inputs import AdminGrantInput
from identity.roles.service_admin_grants import add_admin_grant
from tests.integration.console.conftest import Console


def with_factor(console: Console, user_id: UUID) -> UUID:
    keyring = console.things[Keyring]
    with console.unit() as unit:
        seed = mfa.begin_enrolment(unit, keyring, user_id)
        assert mfa.confirm_enrolment(unit, keyring, user_id, pyotp.TOTP(seed).at(unit.now))
    return user_id


def someone(console: Console) -> tuple[str, UUID]:
    login = f"p{uuid4().hex[:8]}"
    return login, console.person(login, "staff")


@pytest.mark.case("PE-05")
@pytest.mark.parametrize("whose", ["auditor", "sysadmin", "granter"])
def test_an_administrators_second_factor_is_not_taken_by_another(console: Console, whose: str) -> None:
    if whose == "granter":
        _, target = someone(console)
        wanted = {"holder_kind": "user", "holder": str(target), "powers": ["assign"], "roles": ["expense:*"]}
        with console.unit() as unit:
            add_admin_grant(unit, AdminGrantInput.model_validate(wanted))
        console.fresh()
    else:
        target = UUID(console.user_id(whose))
    admin = console.visitor("secadmin")
    with_factor(console, target)
    try:
        assert "Remove it" not in admin.get(f"/admin/users/{target}").text
        answer = admin.post(f"/admin/users/{target}/factor/remove", reason="phone lost")
        assert answer.status_code == 403
        with console.database.read() as connection:
            assert mfa.has_factor(connection, target)
    finally:
        with console.unit() as unit:
            mfa.remove_factor(unit, target)


@pytest.mark.case("PE-05")
def test_who_may_grant_roles_gets_at_nobodys_sign_in(console: Console) -> None:
    login, granter = someone(console)
    wanted = {"holder_kind": "user", "holder": str(granter), "powers": ["assign"], "roles": ["expense:*"]}
    with console.unit() as unit:
        add_admin_grant(unit, AdminGrantInput.model_validate(wanted))
    console.fresh()
    visitor = console.visitor(login)
    assert visitor.get("/admin/assignments").status_code == 200
    _, other = someone(console)
    for target in (other, console.user_id("auditor")):
        for act in ("factor/remove", "state"):
            answer = visitor.post(f"/admin/users/{target}/{act}", reason="x", state="disabled")
            assert answer.status_code == 403, (target, act)


@pytest.mark.case("PE-05")
def test_no_page_acts_as_another_or_sets_another_ones_password(console: Console) -> None:
    """Neither is built: a route that would do so must come with a test of whom it refuses."""
    paths = [rule.rule for rule in console.app.url_map.iter_rules()]
    assert not [one for one in paths if "impersonat" in one or "become" in one]
    assert [one for one in paths if "password" in one] == ["/account/password"]
