"""Granting roles: within one's AdminGrants and nowhere else; administration roles by two persons."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.access.replay import replay
from identity.configuration.apply import apply
from identity.configuration.document import Document
from identity.configuration.export import export
from identity.core.errors import Conflict, Invalid, Refused, TesseraError
from identity.core.record import Actor
from identity.login.authenticate import set_password
from identity.people.inputs import EmploymentInput, GroupInput, NewUser, OrgUnitInput, Profile
from identity.people.models import Group, Position, User
from identity.people.service import create_user
from identity.people.service_groups import change_children, change_members, put_group
from identity.people.service_org import find_org_unit, put_employment, put_org_unit
from identity.roles.inputs import (
    AdminGrantInput,
    AssignmentInput,
    InheritanceInput,
    MappingInput,
    PermissionInput,
    ProposalInput,
    RoleInput,
)
from identity.roles.models import AdminGrant, Assignment
from identity.roles.service_admin_grants import add_admin_grant, revoke_admin_grant
from identity.roles.service_administrators import decide, propose
from identity.roles.service_assignments import assign, bootstrap_administrator, revoke
from identity.roles.service_policy import change_rules, load_rules, put_role, version_in_force
from tests.servers.templates import Address, Templates
from tests.world import COMPANY, World, with_files

CNY = "CNY"
TOWN: dict[str, Any] = {
    "applications": [*COMPANY["applications"], {"code": "erp", "name": "ERP", "credential": "env:TEST_SECRET"}],
    "org_units": [
        {"code": "C1", "name": "C1", "kind": "company"},
        {"code": "C2", "name": "C2", "kind": "company"},
        {"code": "D1", "name": "D1", "kind": "department", "parent_code": "C1", "company_code": "C1"},
    ],
    "roles": [
        *({"application": "expense", "name": name, "title": name} for name in ("clerk", "head")),
        {"application": "erp", "name": "payer", "title": "payer"},
        {"name": "cashier", "title": "cashier"},
    ],
    "permissions": [{"role": "expense:clerk", "type": "claim", "actions": ["read"]}],
    "inheritance": [{"senior": "expense:head", "junior": "erp:payer"}],
    "mappings": [
        {"business_role": "business:cashier", "role": "erp:payer"},
        {"business_role": "business:cashier", "role": "expense:clerk"},
    ],
}


class Town:
    """A world with an administrator of company C1's expense roles, and people of two companies."""

    def __init__(self, world: World) -> None:
        self.world = world
        with world.unit() as unit:
            bootstrap_administrator(unit, "sec", "Sec", ["security-admin"])
            bootstrap_administrator(unit, "sys", "Sys", ["system-admin"])
        self.ids = {name: self.user(name) for name in ("sec", "sys")}
        for name, company, unit_code in (("adm", "C1", None), ("ann", "C1", "D1"), ("bob", "C2", None)):
            self.ids[name] = world.person(name)
            wanted = EmploymentInput(company_code=company, org_unit_code=unit_code, position="clerk")
            with world.unit() as unit:
                put_employment(unit, self.ids[name], wanted)

    def user(self, login: str) -> UUID:
        with self.world.unit() as unit:
            found: UUID = unit.db.execute(select(User.id).where(User.login == login)).scalar_one()
        return found

    def acting(self, name: str) -> Any:
        user_id = self.ids[name]
        person = self.world.fresh().users[user_id].person_id
        return self.world.units.open(Actor("user", str(user_id), name, user=user_id, person=person), reason="test")

    def grant(self, by: str = "sec", to: str = "adm", **parts: Any) -> None:
        fixed = {"powers": ("assign", "revoke"), "roles": ("expense:*",), "company": "C1"}
        with self.acting(by) as unit:
            add_admin_grant(unit, AdminGrantInput(holder_kind="user", holder=str(self.ids[to]), **{**fixed, **parts}))

    def try_assign(self, by: str, to: str, role: str = "expense:clerk", **parts: Any) -> str:
        wanted = AssignmentInput(
            **{"holder_kind": "user", "holder_id": self.ids.get(to), "role": role, "company": "C1", **parts}
        )
        try:
            with self.acting(by) as unit:
                assign(unit, wanted)
        except TesseraError as error:
            return error.code
        return "assigned"


@pytest.fixture
def town(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[Town]:
    made = templates.world(database_url, tmp_path, TOWN)
    yield Town(made)
    made.close()


@pytest.mark.case("PE-01")
def test_nobody_grants_outside_his_admin_grants(town: Town) -> None:
    assert town.try_assign("adm", "ann") == "no_admin_grant"
    town.grant(limit={"value": "1000", "currency": CNY}, max_days=30)
    now = datetime.now(UTC)
    within: dict[str, Any] = {
        "limit": {"value": "1000", "currency": CNY},
        "valid_until": now + timedelta(days=30),
    }
    assert town.try_assign("adm", "ann", **within) == "assigned"
    cases: list[tuple[str, dict[str, Any]]] = [
        ("grant_role", {"role": "erp:payer"}),
        ("grant_role", {"role": "business:cashier"}),
        ("grant_role", {"role": "expense:head"}),  # it inherits a role of another application
        ("grant_scope", {"company": None}),
        ("grant_scope", {"company": "C2"}),
        ("grant_target", {"holder_id": town.ids["bob"]}),
        ("grant_limit", {"limit": None}),
        ("grant_limit", {"limit": {"value": "1000.01", "currency": CNY}}),
        ("grant_limit", {"limit": {"value": "1", "currency": "USD"}}),
        ("grant_duration", {"valid_until": None}),
        ("grant_duration", {"valid_until": now + timedelta(days=32)}),
        ("administration_role", {"role": "tessera:security-admin"}),
    ]
    for code, parts in cases:
        assert town.try_assign("adm", "ann", **{**within, **parts}) == code, parts
    assert town.try_assign("ann", "bob") == "no_admin_grant", "holding a role is not granting it"
    assert town.try_assign("sys", "ann") == "no_admin_grant"
    assert town.try_assign("sec", "bob", role="business:cashier", company=None) == "assigned"


def test_a_decision_about_a_grant_is_recorded_and_made_again(town: Town) -> None:
    town.grant(limit={"value": "1000", "currency": CNY})
    town.try_assign("adm", "ann", limit={"value": "500", "currency": CNY})
    town.try_assign("adm", "ann", limit={"value": "5000", "currency": CNY})
    with town.acting("sec") as unit:
        for one in unit.db.execute(select(AdminGrant.grant_id)).scalars():
            revoke_admin_grant(unit, one)
    assert town.try_assign("adm", "ann") == "no_admin_grant"
    decisions = [one for one in town.world.records() if one.get("resource_type") == "assignment"]
    made = [(one["result"], one["reason"]) for one in decisions if one["kind"] == "access.decision.made"]
    assert made == [("permit", "permitted"), ("deny", "grant_limit"), ("deny", "no_admin_grant")]
    with town.world.database.read() as connection:
        again = [replay(connection, one) for one in decisions if one["kind"] == "access.decision.made"]
    assert [one.reason for one in again] == [reason for _, reason in made]


@pytest.mark.case("PE-01", "PE-04")
def test_nobody_grants_to_himself_nor_to_what_he_belongs_to(town: Town) -> None:
    world = town.world
    town.grant("sec", "adm", company=None)
    world.join(town.ids["adm"], "inner")
    with world.unit() as unit:
        outer = put_group(unit, GroupInput(name="outer", display_name="outer")).id
        inner = unit.db.execute(select(Group.id).where(Group.name == "inner")).scalar_one()
        change_children(unit, outer, add=[inner])
        clerk = unit.db.execute(select(Position.id).where(Position.code == "clerk")).scalar_one()
        company = find_org_unit(unit, "C1")
        second = create_user(
            unit,
            NewUser(
                login="adm2",
                profile=Profile(name="Adm"),
                person_id=world.fresh().users[town.ids["adm"]].person_id,
            ),
        )
        town.ids["adm2"] = second.id
    assert company is not None
    for kind, holder in (("group", outer), ("group", inner), ("position", clerk), ("unit", company.id)):
        assert town.try_assign("adm", "", holder_kind=kind, holder_id=holder, company=None) == "self_grant", kind
    assert town.try_assign("adm", "adm") == "self_grant"
    assert town.try_assign("adm", "adm2") == "self_grant"
    assert town.try_assign("sec", "sec") == "self_grant"
    with pytest.raises(Refused) as refused, town.acting("sec") as unit:
        change_members(unit, outer, add=[town.ids["sec"]])
    assert refused.value.code == "self_grant"


def test_no_admin_grant_is_wider_than_its_granters(town: Town) -> None:
    town.grant(powers=("assign",), limit={"value": "1000", "currency": CNY}, max_days=30)
    bounds: dict[str, Any] = {"limit": {"value": "900", "currency": CNY}, "max_days": 9, "powers": ("assign",)}
    wider: list[dict[str, Any]] = [
        {"powers": ("assign", "revoke")},
        {"roles": ("expense:*", "erp:*")},
        {"company": None},
        {"company": "C2"},
        {"limit": None},
        {"max_days": None},
        {"max_days": 31},
    ]
    for parts in wider:
        with pytest.raises(Refused):
            town.grant("adm", "ann", **{**bounds, **parts})
    with pytest.raises(Refused):
        town.grant("adm", "adm", **bounds)
    town.grant("adm", "ann", org_unit="D1", **bounds)
    with pytest.raises(Refused):
        town.grant("bob", "ann", **bounds)
    for roles in (("tessera:*",), ("tessera:audit-admin",)):
        with pytest.raises((Refused, Invalid)):
            town.grant("sec", "ann", roles=roles)


@pytest.mark.case("PE-02", "PE-03", "AZ-09")
def test_who_may_grant_some_roles_changes_no_rule_no_group_and_no_unit(town: Town) -> None:
    town.grant()
    with town.world.unit() as unit:
        version = version_in_force(unit)
        content = load_rules(unit, version)
        group = put_group(unit, GroupInput(name="g", display_name="g")).id
        other = put_group(unit, GroupInput(name="h", display_name="h")).id
    every = PermissionInput(role="expense:clerk", application="expense", type="claim", action="read", pattern="*/**")
    rows: list[dict[str, Any]] = [
        {"mappings": (MappingInput(source_kind="group", source="g", role="expense:head"),)},
        {"inheritance": (InheritanceInput(senior="expense:clerk", junior="erp:payer"),)},
        {"permissions": (every,)},
    ]
    acts: list[Any] = [
        *(
            lambda unit, row=row: change_rules(unit, content.model_copy(update=row), based_on=version, note="x")
            for row in rows
        ),
        lambda unit: put_role(unit, RoleInput(application="expense", name="mine", title="mine")),
        lambda unit: change_members(unit, group, add=[town.ids["ann"]]),
        lambda unit: change_children(unit, group, add=[other]),
        lambda unit: put_org_unit(unit, OrgUnitInput(code="D1", name="D1", kind="department", parent_code="C2")),
        lambda unit: propose(unit, ProposalInput(user_id=town.ids["ann"], role="tessera:audit-admin")),
    ]
    for act in acts:
        with pytest.raises(Refused), town.acting("adm") as unit:
            act(unit)
    refused = [one for one in town.world.records() if one.get("actor", {}).get("name") == "adm"]
    assert [one["result"] for one in refused] == ["deny"] * len(acts)


def test_an_admin_grant_ends_at_its_end_and_a_revoked_one_at_once(town: Town) -> None:
    town.grant(valid_until=datetime.now(UTC) - timedelta(seconds=1))
    assert town.try_assign("adm", "ann") == "no_admin_grant"
    town.grant()
    assert town.try_assign("adm", "ann") == "assigned"
    with town.world.unit() as unit:
        [row] = unit.db.execute(select(Assignment).where(Assignment.role_key == "expense:clerk")).scalars()
    with town.acting("adm") as unit:
        revoke(unit, row.assignment_id)
    assert town.world.fresh().users[town.ids["ann"]].derivations == ()


@pytest.mark.case("PE-09")
def test_an_administration_role_takes_two_persons(town: Town) -> None:
    wanted = ProposalInput(user_id=town.ids["ann"], role="tessera:security-admin")
    with pytest.raises(Refused), town.acting("sys") as unit:
        propose(unit, wanted)
    with pytest.raises(Refused), town.acting("sec") as unit:
        propose(unit, ProposalInput(user_id=town.ids["sec"], role="tessera:audit-admin"))
    with town.acting("sec") as unit:
        first = propose(unit, wanted).id
    for by in ("sec", "ann", "adm"):
        with pytest.raises(Refused), town.acting(by) as unit:
            decide(unit, first, approve=True)
    with town.acting("sys") as unit:
        decide(unit, first, approve=True)
    with pytest.raises(Conflict), town.acting("sys") as unit:
        decide(unit, first, approve=True)
    assert town.try_assign("ann", "bob", company=None) == "assigned"
    with town.acting("sec") as unit:
        joined = propose(unit, ProposalInput(user_id=town.ids["ann"], role="tessera:audit-admin")).id
    with pytest.raises(Conflict, match="three"), town.acting("sys") as unit:
        decide(unit, joined, approve=True)
    with town.acting("ann") as unit:
        out = propose(unit, ProposalInput(user_id=town.ids["sec"], role="tessera:security-admin", action="revoke")).id
    with town.acting("sys") as unit:
        decide(unit, out, approve=True)
    assert town.try_assign("sec", "bob") == "no_admin_grant"
    with town.acting("ann") as unit:
        last = propose(unit, ProposalInput(user_id=town.ids["sys"], role="tessera:system-admin", action="revoke")).id
    with pytest.raises(Refused), town.acting("ann") as unit:
        decide(unit, last, approve=True)


@pytest.mark.case("PE-06")
def test_built_in_roles_are_never_changed(town: Town) -> None:
    for name in ("security-admin", "audit-admin", "mine"):
        with pytest.raises(Conflict), town.acting("sec") as unit:
            put_role(unit, RoleInput(application="tessera", name=name, title="Nobody"))


def test_admin_grants_are_applied_and_exported(town: Town, tmp_path: Path) -> None:
    grants = [
        {"user": "adm", "powers": ["assign"], "roles": ["expense:*"], "company": "C1", "max_days": 90},
        {"role": "expense:head", "powers": ["revoke"], "roles": ["expense:clerk"]},
    ]
    document = Document.model_validate(with_files({"admin_grants": grants}))
    with town.world.unit() as unit:
        apply(unit, document, tmp_path, set_password)
    with town.world.unit() as unit:
        again = apply(unit, document, tmp_path, set_password).lines
        assert [line for line in again if not line.startswith("?")] == []
        (tmp_path / "out.yaml").write_text(export(unit))
    written = (tmp_path / "out.yaml").read_text()
    assert "admin_grants" in written
    assert "max_days: 90" in written
    until = datetime.now(UTC) + timedelta(days=89)
    assert town.try_assign("adm", "ann", valid_until=until) == "assigned"
    shorter = Document.model_validate(with_files({"admin_grants": grants[:1]}))
    for prune, sign in ((False, "?"), (True, "-")):
        with town.world.unit() as unit:
            lines = apply(unit, shorter, tmp_path, set_password, prune=prune).lines
        assert f"{sign} admin_grant role expense:head: expense:clerk" in lines
    with town.world.unit() as unit:
        assert not any("admin_grant" in one for one in apply(unit, shorter, tmp_path, set_password).lines)
    wrong = Document.model_validate({"admin_grants": [{**grants[0], "roles": ["tessera:audit-admin"]}]})
    with pytest.raises(Invalid), town.world.unit() as unit:
        apply(unit, wrong, tmp_path, set_password)
