"""Separated duties hold on every path by which somebody gets a role."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.access.duty_report import report, report_due
from identity.configuration.apply import apply
from identity.configuration.document import Document
from identity.core.errors import Conflict, Refused
from identity.core.record import Actor
from identity.login.authenticate import set_password
from identity.people.inputs import EmploymentInput, GroupInput, NewUser, OrgUnitInput, Profile
from identity.people.models import User
from identity.people.service import create_user, set_user_state
from identity.people.service_groups import change_children, change_members, get_group, put_group
from identity.people.service_org import get_org_unit, put_employment, put_org_unit, put_position
from identity.roles.inputs import AssignmentInput, InheritanceInput, MappingInput, MitigationInput
from identity.roles.models import HeldGain
from identity.roles.service_assignments import assign, bootstrap_administrator
from identity.roles.service_duties import library, mitigate, release_gain
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from tests.servers.templates import Address, Templates
from tests.world import COMPANY, World, with_files

PAIR = {"pair": "P13", "a": ["expense:cashier"], "b": [["erp", "voucher", "post"]]}
TOWN: dict[str, Any] = {
    "applications": [
        *COMPANY["applications"],
        {"code": "erp", "name": "ERP", "credential": "env:TEST_SECRET"},
    ],
    "roles": [
        *({"application": "expense", "name": name, "title": name} for name in ("cashier", "head", "maker", "checker")),
        {"application": "erp", "name": "accounting", "title": "accounting"},
        {"name": "payer", "title": "payer"},
    ],
    "permissions": [
        {"role": "expense:cashier", "type": "claim", "actions": ["pay"]},
        {"role": "expense:maker", "type": "claim", "actions": ["make"]},
        {"role": "expense:checker", "type": "claim", "actions": ["check"]},
        {"role": "erp:accounting", "type": "voucher", "actions": ["post"]},
    ],
    "mappings": [
        {"group": "cashiers", "role": "expense:cashier"},
        {"group": "accountants", "role": "erp:accounting"},
        {"group": "pool", "role": "expense:maker"},
        {"group": "pool", "role": "expense:checker"},
    ],
    "duties": [
        PAIR,
        {
            "id": "D1",
            "kind": "dynamic",
            "title": "make or check",
            "definition": {"roles": ["expense:maker", "expense:checker"], "n": 2},
        },
    ],
}


@pytest.fixture
def town(database_url: Address, tmp_path: Path, templates: Templates) -> Iterator[World]:
    made = templates.world(database_url, tmp_path, TOWN)
    yield made
    made.close()


def roles_of(town: World, user_id: UUID) -> set[str]:
    user = town.fresh().users[user_id]
    return {one.grant.role for one in user.derivations}


def as_sync(town: World) -> Any:
    return town.units.open(Actor.system("sync:hq"))


def change(town: World, **parts: Any) -> None:
    with town.unit() as unit:
        version = version_in_force(unit)
        content = load_rules(unit, version)
        more = {name: (*getattr(content, name), *rows) for name, rows in parts.items()}
        change_rules(unit, content.model_copy(update=more), based_on=version, note="test")


def person_of(town: World, user_id: UUID) -> UUID:
    return town.fresh().users[user_id].person_id


def another_identity(town: World, user_id: UUID) -> UUID:
    new = NewUser(login="adm-ann", profile=Profile(name="Ann"), person_id=person_of(town, user_id))
    with town.unit() as unit:
        made: UUID = create_user(unit, new).id
    return made


@pytest.mark.case("AZ-11")
def test_no_path_joins_separated_duties_of_two_applications(town: World) -> None:
    ann = town.person("ann")
    town.person("bob", "accountants")
    town.join(ann, "cashiers")
    with pytest.raises(Conflict, match=r"Ann: P13 .*expense:cashier.*erp:voucher:post"):
        town.join(ann, "accountants")
    with pytest.raises(Conflict, match="Ann"), town.unit() as unit:
        assign(unit, AssignmentInput(holder_kind="user", holder_id=ann, role="erp:accounting"))
    with pytest.raises(Conflict, match="Ann"), town.unit() as unit:
        change_children(unit, get_group(unit, "accountants").id, add=[get_group(unit, "cashiers").id])
    with pytest.raises(Conflict, match="Ann"):
        change(town, mappings=[MappingInput(source_kind="group", source="cashiers", role="erp:accounting")])
    with pytest.raises(Conflict, match="Ann"):
        change(town, inheritance=[InheritanceInput(senior="expense:cashier", junior="erp:accounting")])
    second = another_identity(town, ann)
    with pytest.raises(Conflict, match="Ann"):
        town.join(second, "accountants")
    assert roles_of(town, ann) == {"expense:cashier"}


@pytest.mark.case("AZ-11")
def test_a_duty_is_found_from_wherever_it_comes(town: World) -> None:
    ann = town.person("ann", "team")
    with town.unit() as unit:
        put_org_unit(unit, OrgUnitInput(code="C1", name="C1", kind="company", currency="CNY"))
        for code, above in (("HQ", "C1"), ("PAY", "HQ")):
            put_org_unit(
                unit, OrgUnitInput(code=code, name=code, kind="department", parent_code=above, company_code="C1")
            )
        put_position(unit, "Teller")
    both = ("expense:cashier", "erp:accounting")
    ways = (("business_role", "business:payer"), ("position", "Teller"), ("unit", "HQ"))
    rows = [MappingInput(source_kind=kind, source=source, role=role) for kind, source in ways for role in both]  # type: ignore[arg-type]
    change(town, mappings=[MappingInput(source_kind="group", source="payers", role="business:payer"), *rows])
    with pytest.raises(Conflict, match="Ann: P13"):
        town.join(ann, "payers")
    with town.unit() as unit:
        squad, hall = (put_group(unit, GroupInput(name=name, display_name=name)).id for name in ("squad", "hall"))
        change_children(unit, squad, add=[get_group(unit, "team").id])
        change_children(unit, hall, add=[squad])
        put_group(unit, GroupInput(name="payers", display_name="payers"))
    with pytest.raises(Conflict, match="Ann: P13"), town.unit() as unit:
        change_children(unit, get_group(unit, "payers").id, add=[hall])
    for place in ({"position": "Teller"}, {"org_unit_code": "PAY"}):
        with pytest.raises(Conflict, match="Ann: P13"), town.unit() as unit:
            put_employment(unit, ann, EmploymentInput(company_code="C1", **place))
    with town.unit() as unit:
        put_employment(unit, ann, EmploymentInput(company_code="C1"))
        company = get_org_unit(unit, "C1").id
        assign(unit, AssignmentInput(holder_kind="unit", holder_id=company, role=both[0]))
    with pytest.raises(Conflict, match="Ann: P13"), town.unit() as unit:
        assign(unit, AssignmentInput(holder_kind="unit", holder_id=company, role=both[1]))


@pytest.mark.case("AZ-11")
def test_a_file_that_would_join_them_is_refused_with_the_list(town: World, tmp_path: Path) -> None:
    ann = town.person("ann", "cashiers")
    mappings = [*TOWN["mappings"], {"group": "cashiers", "role": "erp:accounting"}]
    document = Document.model_validate(with_files({**TOWN, "mappings": mappings}))
    with pytest.raises(Conflict, match="Ann: P13"), town.unit() as unit:
        apply(unit, document, tmp_path, set_password)
    assert roles_of(town, ann) == {"expense:cashier"}


@pytest.mark.case("AZ-11")
def test_a_sync_states_its_facts_and_the_gain_is_held_until_somebody_decides(town: World) -> None:
    ann = town.person("ann", "cashiers")
    town.person("bob", "accountants")
    with town.unit() as unit:
        accountants, cashiers = (get_group(unit, name).id for name in ("accountants", "cashiers"))
    with as_sync(town) as unit:
        change_members(unit, accountants, add=[ann])
    assert town.fresh().users[ann].identity.facts.groups == ("accountants", "cashiers")
    assert roles_of(town, ann) == {"expense:cashier"}
    with town.unit() as unit:
        [gain] = unit.db.execute(select(HeldGain).where(HeldGain.rev_until.is_(None))).scalars()
    assert (gain.role_key, gain.rule_id, gain.person_id) == ("erp:accounting", "P13", person_of(town, ann))
    with pytest.raises(Conflict, match="P13"), town.unit() as unit:
        release_gain(unit, gain.id)
    with as_sync(town) as unit:
        change_members(unit, cashiers, remove=[ann])
    assert roles_of(town, ann) == {"erp:accounting"}, "the directory itself took the other duty away"


def test_a_control_lets_one_person_break_one_rule_until_its_end(town: World) -> None:
    ann, boss = town.person("ann", "cashiers"), town.person("boss")
    control = MitigationInput(
        person_id=person_of(town, ann),
        rule="P13",
        control="weekly review of all payments",
        owner_person_id=person_of(town, boss),
        reason="two people in the branch office",
        valid_until=datetime.now(UTC) + timedelta(days=30),
    )
    with pytest.raises(Refused), town.unit() as unit:
        mitigate(unit, control.model_copy(update={"owner_person_id": control.person_id}))
    with town.unit() as unit:
        mitigate(unit, control)
    town.join(ann, "accountants")
    assert roles_of(town, ann) == {"expense:cashier", "erp:accounting"}
    with town.unit() as unit:
        [found] = report(unit).findings
    assert (found["name"], found["rule"], found["mitigated"]) == ("Ann", "P13", True)
    later = datetime.now(UTC) + timedelta(days=31)
    report_due(town.units, town.settings.zone, later)
    report_due(town.units, town.settings.zone, later + timedelta(minutes=1))
    reports = [one for one in town.records() if one["kind"] == "roles.duties.reported"]
    assert [one["data"] for one in reports] == [{"found": 1, "open": 0}, {"found": 1, "open": 1}]


@pytest.mark.case("AZ-12")
def test_one_role_of_a_set_blocks_the_other_for_every_identity_of_the_person_until_the_session_ends(
    town: World,
) -> None:
    ann = town.person("ann", "pool")
    second = another_identity(town, ann)
    town.join(second, "pool")
    bob = town.person("bob", "pool")

    def may(user_id: UUID, action: str, sid: str) -> str:
        body = {
            "subject": {"type": "user", "id": town.sub(user_id)},
            "action": {"name": action},
            "resource": {"type": "claim", "id": "1"},
            "context": {"intent": "perform", "sid": sid},
        }
        answer = town.call("POST", "/access/v1/evaluation", json=body, auth=("expense", town.secret)).json
        return "permitted" if answer["decision"] else answer["context"]["reason"]

    assert may(ann, "make", "s1") == "permitted"
    assert may(ann, "make", "s1") == "permitted"
    assert may(ann, "check", "s1") == "sod_dynamic"
    assert may(ann, "check", "s2") == "sod_dynamic"
    assert may(second, "check", "s3") == "sod_dynamic"
    assert may(bob, "check", "s1") == "permitted"
    with town.later(hours=11):
        assert may(ann, "check", "s4") == "permitted"


@pytest.mark.case("PE-07")
def test_no_path_leaves_the_installation_without_a_security_administrator(town: World) -> None:
    with town.unit() as unit:
        bootstrap_administrator(unit, "sec", "Sec", ["security-admin"])
        sec = unit.db.execute(select(User.id).where(User.login == "sec")).scalar_one()
    tries: list[dict[str, Any]] = [
        {"state": "disabled"},
        {"state": "deleted"},
        {"state": "active", "valid_until": datetime.now(UTC) + timedelta(days=900)},
    ]
    for one in tries:
        for opened in (town.unit, lambda: as_sync(town)):
            with pytest.raises(Conflict, match="security administrator"), opened() as unit:
                set_user_state(unit, sec, cause="test", **one)


@pytest.mark.case("PE-09")
def test_the_three_administrators_are_three_persons(town: World) -> None:
    with pytest.raises(Conflict, match="three"), town.unit() as unit:
        bootstrap_administrator(unit, "all", "All", ["security-admin", "audit-admin"])


def test_the_library_has_the_thirty_pairs() -> None:
    pairs = library()
    assert list(pairs) == [f"P{n:02}" for n in range(1, 31)]
    assert {one.level for one in pairs.values()} == {"H", "M"}
