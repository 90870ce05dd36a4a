"""A recorded decision is made again from its record, with the same answer and reasons, after many later changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.access.decide import Access, AccessRequest
from identity.access.replay import replay
from identity.core.unit import Unit
from identity.people.inputs import EmploymentInput, GroupInput, OrgUnitInput
from identity.people.models import Group, GroupNaming
from identity.people.service import rename_login, set_user_state
from identity.people.service_groups import change_children, change_members, put_group
from identity.people.service_org import put_employment, put_org_unit
from identity.roles.inputs import AssignmentInput, MappingInput, PermissionInput, ScopeTransform
from identity.roles.models import Assignment
from identity.roles.service_assignments import assign, revoke
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from policies import Amount
from tests.world import World

UNITS = 100
CHANGES_A_UNIT = 10
GROUPS = ["staff", "leads", "g1", "g2"]
ROLES = ["expense:employee", "expense:approver"]
CONDITIONS = [None, None, 'subject.properties.login.startsWith("u")', "subject.properties.company == 'C1'", "1/0 == 1"]


class Changes:
    """Random changes of everything that a decision reads."""

    def __init__(self, world: World, people: list[UUID]) -> None:
        self.chance = random.Random(4)
        self.people = people
        self.renamed = 0
        with world.unit() as unit:
            put_org_unit(unit, OrgUnitInput(code="C1", name="C1", kind="company"))
            put_org_unit(unit, OrgUnitInput(code="C2", name="C2", kind="company"))
            for code in ("D1", "D2"):
                self.place(unit, code)
        with world.unit() as unit:
            self.groups = [put_group(unit, GroupInput(name=name, display_name=name)).id for name in GROUPS]
        self.kinds: list[Callable[[Unit], object]] = [
            self.membership,
            self.membership,
            self.nesting,
            self.state,
            self.login,
            self.group_name,
            self.employment,
            lambda unit: self.place(unit, self.chance.choice(["D1", "D2"])),
            self.assignment,
            self.revocation,
        ]

    def place(self, unit: Unit, code: str) -> None:
        company = self.chance.choice(["C1", "C2"])
        wanted = OrgUnitInput(code=code, name=code, kind="department", parent_code=company, company_code=company)
        put_org_unit(unit, wanted)

    def membership(self, unit: Unit) -> None:
        verb = self.chance.choice(["add", "add", "remove"])
        change_members(unit, self.chance.choice(self.groups), **{verb: [self.chance.choice(self.people)]})

    def nesting(self, unit: Unit) -> None:
        parent, child = self.chance.sample(self.groups, 2)
        change_children(unit, parent, **{self.chance.choice(["add", "remove"]): [child]})

    def state(self, unit: Unit) -> None:
        state = self.chance.choice(["active", "active", "active", "disabled"])
        set_user_state(unit, self.chance.choice(self.people), state, cause="test")

    def login(self, unit: Unit) -> None:
        self.renamed += 1
        rename_login(unit, self.chance.choice(self.people), f"{self.chance.choice('uv')}{self.renamed}")

    def group_name(self, unit: Unit) -> None:
        """As a directory renames one: mappings then miss it, until it has its name again."""
        group = unit.db.get_one(Group, self.chance.choice(self.groups))
        self.renamed += 1
        known = unit.db.execute(select(Group.name)).scalars().all()
        free = [name for name in GROUPS if name not in known]
        group.name = self.chance.choice(free) if free else f"renamed-{self.renamed}"
        unit.db.flush()
        unit.facts.put(unit.db, GroupNaming, {"group_id": group.id}, {"name": group.name})
        unit.facts.touch("group")

    def employment(self, unit: Unit) -> None:
        wanted = EmploymentInput(
            company_code=self.chance.choice(["C1", "C2"]),
            org_unit_code=self.chance.choice(["D1", "D2", None]),
            position=self.chance.choice(["clerk", "head"]),
        )
        put_employment(unit, self.chance.choice(self.people), wanted)

    def assignment(self, unit: Unit) -> None:
        wanted = AssignmentInput(
            holder_kind="user",
            holder_id=self.chance.choice(self.people),
            role=self.chance.choice(ROLES),
            company=self.chance.choice([None, "C1"]),
            limit={"value": "50", "currency": "CNY"} if self.chance.random() < 0.5 else None,
        )
        assign(unit, wanted)

    def revocation(self, unit: Unit) -> None:
        found = unit.facts.all_current(unit.db, Assignment, {})
        if found:
            revoke(unit, min(one.assignment_id for one in found))

    def rules(self, unit: Unit) -> None:
        version = version_in_force(unit)
        content = load_rules(unit, version)
        role = self.chance.choice(ROLES)
        permission = PermissionInput(
            role=role,
            application="expense",
            type="claim",
            pattern=self.chance.choice(["**", "a", "a/**"]),
            action=self.chance.choice(["read", "look"]),
            effect=self.chance.choice(["permit", "permit", "deny"]),
            condition=self.chance.choice(CONDITIONS),
            inherited=self.chance.random() < 0.5,
        )
        mapping = MappingInput(
            source_kind="position",
            source=self.chance.choice(["clerk", "head"]),
            role=role,
            exclude=self.chance.random() < 0.3,
            scope=ScopeTransform(transform="narrow", org_unit="@own"),
        )
        kept = self.chance.sample(list(content.permissions), k=max(1, len(content.permissions) - 1))
        permissions = tuple({repr(one): one for one in (*kept, permission)}.values())
        mappings = tuple({repr(one): one for one in (*content.mappings[-6:], mapping)}.values())
        update = {"permissions": permissions, "mappings": mappings}
        change_rules(unit, content.model_copy(update=update), based_on=version, note="test")

    def question(self) -> AccessRequest:
        chance = self.chance
        properties = {
            "company": chance.choice(["C1", "C2"]),
            "org_unit": chance.choice(["D1", "D2"]),
            "amount": Amount(chance.choice([100_000, 900_000]), "CNY"),
        }
        return AccessRequest(
            "expense",
            chance.choice(self.people),
            "claim",
            chance.choice(["a", "a/b", "x"]),
            chance.choice(["read", "look", "approve"]),
            properties={name: value for name, value in properties.items() if chance.random() < 0.8},
            context={"channel": "web"},
        )


def test_every_decision_is_made_again_from_its_record_after_a_thousand_changes(world: World) -> None:
    people = [world.person(f"user{n}", "staff") for n in range(12)]
    changes = Changes(world, people)
    access = world.things[Access]
    for turn in range(UNITS):
        with world.unit() as unit:
            for _ in range(CHANGES_A_UNIT - 1):
                changes.chance.choice(changes.kinds)(unit)
                unit.db.flush()
            changes.rules(unit)
        world.fresh()
        with world.unit() as unit:
            for _ in range(3 if turn % 2 else 2):
                access.decide(unit, changes.question())
    recorded = [one for one in world.records() if one["kind"] == "access.decision.made"]
    assert len(recorded) == 250
    assert len({one["facts_revision"] for one in recorded}) > 90
    with world.database.read() as connection:
        for body in recorded:
            again = replay(connection, body)
            made = ("permit" if again.permit else "deny", again.reason, list(again.rules), again.policy_version)
            assert made == (body["result"], body["reason"], body.get("rules", []), body["policy_version"]), body
    assert_varied(recorded)


def assert_varied(recorded: list[Mapping[str, Any]]) -> None:
    """Otherwise nothing would be told by the comparison."""
    assert {one["reason"] for one in recorded} >= {"permitted", "denied", "no_permission", "scope", "subject_disabled"}
