"""Who had what on a day, drafts from a file, and how much of the record a replay looked at, on both databases."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import yaml
from click.testing import Result
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from identity.access.checks import ask, carry_out
from identity.access.past import at_day
from identity.access.replays import replay_decisions
from identity.audit.csv import BOM
from identity.audit.index import index_new
from identity.configuration.apply import apply
from identity.configuration.document import Document
from identity.core.errors import Conflict, Invalid, NotFound, Refused, Stale
from identity.core.record import Actor
from identity.login.authenticate import set_password
from identity.people.models import Group
from identity.people.service import set_user_state
from identity.people.service_groups import change_members
from identity.reports.lookup import Asked, look_up
from identity.reports.service import make
from identity.roles.inputs import AssignmentInput, InheritanceInput, PermissionInput
from identity.roles.models import PermissionRow, PolicyVersion, RoleInheritance
from identity.roles.models_drafts import PolicyDraft, SecondPersonRule
from identity.roles.service_assignments import assign
from identity.roles.service_drafts import create_draft, decide_draft, propose_draft, publish_draft
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from tests.world import COMPANY, World, with_files


def day(n: int) -> date:
    """The day n days from today, as UTC counts."""
    return (datetime.now(UTC) + timedelta(days=n)).date()


def held(world: World, n: int, **narrowed: Any) -> list[tuple[str, str]]:
    """(login, role) at the end of the day n days from now, asked a hundred days from now."""
    with world.later(days=100), world.unit() as unit:
        _past, rows = look_up(unit, Asked(day(n), **narrowed), UTC)  # type: ignore[arg-type]
    return [(one.login, one.grant.role) for one in rows]


def leave(world: World, user: Any, name: str) -> None:
    with world.unit() as unit:
        group = unit.db.execute(select(Group.id).where(Group.name == name)).scalar_one()
        change_members(unit, group, remove=[user])


def test_who_had_what_follows_memberships_states_and_rules_of_each_day(world: World) -> None:
    zhang = world.person("zhang", "staff", "leads")
    li = world.person("li", "staff")
    with world.later(days=10):
        leave(world, zhang, "leads")
        with world.unit() as unit:
            set_user_state(unit, li, "disabled", cause="left")
    with world.later(days=20), world.unit() as unit:
        content = load_rules(unit, version_in_force(unit))
        edge = InheritanceInput(senior="expense:employee", junior="expense:approver")
        changed = content.model_copy(update={"inheritance": (edge,)})
        change_rules(unit, changed, based_on=version_in_force(unit), note="employees approve")
    both = [("zhang", "expense:approver"), ("zhang", "expense:employee")]
    assert held(world, 5) == [("li", "expense:employee"), *both]
    assert held(world, 9) == held(world, 5)
    assert held(world, 15) == both[1:]
    assert held(world, 25) == both, "inherited roles are held"
    assert held(world, 5, role="expense:approver") == both[:1]
    assert held(world, 5, person="LI") == [("li", "expense:employee")]
    assert held(world, 5, application="erp") == []
    with pytest.raises(NotFound, match="no such user"):
        held(world, 5, person="nobody")
    with pytest.raises(NotFound, match="before the first facts"):
        held(world, -9)
    with pytest.raises(Invalid, match="not come yet"):
        held(world, 101)
    assert [one["kind"] for one in world.records()].count("reports.holdings.read") == 8


def test_what_was_only_learned_later_counts_as_known_today_and_not_as_known_then(world: World) -> None:
    person = world.person("zhang")
    with world.later(days=10), world.unit() as unit:
        begun = datetime.now(UTC) + timedelta(days=2)
        ended = datetime.now(UTC) + timedelta(days=8)
        wanted = AssignmentInput(
            holder_kind="user", holder_id=person, role="expense:approver", valid_from=begun, valid_until=ended
        )
        assign(unit, wanted)
    assert held(world, 5) == []
    assert held(world, 5, as_known_today=True) == [("zhang", "expense:approver")]
    assert held(world, 0, as_known_today=True) == []
    assert held(world, 9, as_known_today=True) == []


def test_a_day_ends_in_the_organisations_zone(world: World) -> None:
    user = world.person("zhang", "staff")
    evening = datetime.now(UTC).replace(hour=17, minute=0) + timedelta(days=2)  # 01:00 of the next day in Shanghai
    with world.later(seconds=(evening - datetime.now(UTC)).total_seconds()):
        leave(world, user, "staff")
    with world.later(days=9), world.database.read() as connection:
        now = datetime.now(UTC) + world.ahead
        for zone, expected in ((world.settings.zone, True), (UTC, False)):
            past = at_day(connection, evening.date(), zone, now)
            assert any(user.id for user, _, _ in past.holdings()) is expected, zone


def test_the_report_about_people_and_roles_speaks_of_a_day(world: World) -> None:
    zhang = world.person("zhang", "staff", "leads")
    with world.later(days=10):
        leave(world, zhang, "leads")
    with world.later(days=20):
        snapshot = world.fresh()
        with world.unit() as unit:
            now, then = (make(unit, snapshot, "people-roles", 31, UTC, day=one) for one in (None, day(5)))
    rows = [list(csv.DictReader(io.StringIO(one.content.removeprefix(BOM), newline=""))) for one in (now, then)]
    assert [sorted(row["Role"] for row in one) for one in rows] == [["employee"], ["approver", "employee"]]
    assert then.parameters["day"] == day(5).isoformat()
    assert then.facts_revision < now.facts_revision


def cli(world: World, *words: str) -> Result:
    return world.app.test_cli_runner().invoke(args=["identity", *words])


def test_the_command_line_writes_who_had_what_and_what_two_versions_differ_in(world: World) -> None:
    world.person("zhang", "staff", "leads")
    today = datetime.now(world.settings.zone).date()
    done = cli(world, "holdings", "--at", today.isoformat(), "--role", "expense:approver")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Person,Login,Application,Role")
    assert lines[1] == "Zhang,zhang,expense,approver,,,,5000.00 CNY,,,group:leads"
    assert len(lines) == 2
    for words, text in (
        (("--at", "31 March"), "A date is written as"),
        (("--at", "2001-01-01"), "before the first facts"),
        (("--at", (today + timedelta(days=2)).isoformat()), "not come yet"),
        (("--at", today.isoformat(), "--person", "nobody"), "no such user"),
    ):
        failed = cli(world, "holdings", *words)
        assert failed.exit_code == 1
        assert text in failed.output
    compared = cli(world, "compare", "0")
    assert "gains zhang expense role expense:approver ≤ 5000.00 CNY" in compared.stdout
    assert "gains zhang expense permission approve claim **" in compared.stdout
    assert cli(world, "compare", "1", "1").stdout == "0 changes of 0 users, 0 shown\n"
    assert cli(world, "compare", "1", "99").exit_code == 1


def file_of(tmp_path: Path, **parts: Any) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(with_files({**COMPANY, **parts}), allow_unicode=True))
    return path


def test_a_file_becomes_a_draft_and_nothing_else(world: World, tmp_path: Path) -> None:
    person = world.person("zhang", "staff")
    wider = [*COMPANY["permissions"], {"role": "expense:employee", "type": "claim", "actions": ["audit"]}]
    path = file_of(tmp_path, permissions=wider, roles=[*COMPANY["roles"], {"name": "new", "title": "New"}])
    with world.unit() as unit:
        before = version_in_force(unit)
    done = cli(world, "apply", "--draft", str(path))
    assert done.exit_code == 0, done.output
    assert "+ permissions: {" in done.output
    assert "? applications: not part of a draft" in done.output
    assert "? policy 2: a draft" in done.output
    with world.unit() as unit:
        [draft] = unit.db.execute(select(PolicyDraft)).scalars()
        assert (draft.state, draft.owner, draft.version) == ("editing", "cli:apply", 2)
        assert version_in_force(unit) == before
    assert world.decide(person, "audit", "X")["decision"] is False
    # The same file again is the same draft; what is in force already is none.
    assert cli(world, "apply", "--draft", str(path)).exit_code == 0
    assert "in force already" in cli(world, "apply", "--draft", str(file_of(tmp_path))).output
    with world.unit() as unit:
        assert len(list(unit.db.execute(select(PolicyDraft)).scalars())) == 1
    kinds = [one["kind"] for one in world.records()]
    assert kinds.count("roles.draft.created") == 1
    assert kinds.count("roles.policy.published") == 1


def test_where_a_second_person_publishes_a_file_makes_a_draft_of_its_rules(world: World, tmp_path: Path) -> None:
    with world.unit() as unit:
        unit.db.add(SecondPersonRule(slot=1, required=True, row_version=1))
    wider = [*COMPANY["permissions"], {"role": "expense:employee", "type": "claim", "actions": ["audit"]}]
    path = file_of(tmp_path, permissions=wider, roles=[*COMPANY["roles"], {"name": "new", "title": "New"}])
    for _ in range(2):
        done = cli(world, "apply", str(path))
        assert done.exit_code == 0, done.output
        assert "? policy 2: a draft, to be published by a second person" in done.output
    with world.unit() as unit:
        assert version_in_force(unit) == 1
        [draft] = unit.db.execute(select(PolicyDraft)).scalars()
    # What does not know of the second person is refused where it would commit.
    document = Document.model_validate(with_files({**COMPANY, "permissions": wider}))
    with pytest.raises(Refused, match="second person"), world.unit() as unit:
        apply(unit, document, tmp_path, set_password)
    # A program proposes and approves nothing.
    with pytest.raises(Refused, match="A person must propose"), world.unit() as unit:
        propose_draft(unit, draft.id, draft.row_version, draft.digest)
    with world.unit() as unit:
        unit.db.get_one(PolicyDraft, draft.id).state = "proposed"
    with pytest.raises(Refused, match="A second person"), world.unit() as unit:
        decide_draft(unit, draft.id, draft.row_version, draft.digest, approve=True)


def test_a_replay_says_of_how_many_decisions_it_made_which_again(world: World) -> None:
    person = world.person("zhang", "staff")
    for number in range(30):
        world.decide(person, "submit", f"BX-{number}")
    # What has changed since does not count: each decision has the facts of its time.
    leave(world, person, "staff")
    index_new(world.database, datetime.now(UTC) + timedelta(minutes=1))
    with world.unit() as unit:
        content = load_rules(unit, version_in_force(unit))
    rest = tuple(one for one in content.permissions if one.action != "submit")
    draft = content.model_copy(update={"permissions": rest})
    now = datetime.now(UTC)

    def replayed(rules: Any, **bounds: Any) -> dict[str, Any]:
        clock = count(0.0, 1.0)
        with world.database.read(consistent=True) as connection:
            return replay_decisions(
                connection, (1, content), (2, rules), 7, now, lambda: next(clock), **bounds
            ).counts()

    same = replayed(content)
    assert (same["of"], same["sample"], same["done"], same["rows"]) == (30, 30, 30, 0)
    whole = replayed(draft)
    assert whole["changes"] == {"deny": 30}
    assert whole["applications"] == {"expense": {"deny": 30}}
    some = replayed(draft, sample_max=10)
    assert (some["of"], some["sample"], some["done"], some["rows"]) == (30, 10, 10, 10)
    late = replayed(draft, seconds_max=-1.0)
    assert (late["of"], late["done"], late["reached"]) == (30, 0, None)
    # Of decisions that the rules in force would make otherwise as well, it says so.
    with world.unit() as unit:
        change_rules(unit, draft, based_on=1, note="nobody submits")
    with world.database.read(consistent=True) as connection:
        found = replay_decisions(connection, (2, draft), (2, draft), 7, now, lambda: 0.0).found.rows
    assert {one["kind"] for one in found} == {"already"}


def test_batches_are_replayed_item_by_item(world: World) -> None:
    person = world.person("zhang", "staff")
    body = {
        "subject": {"type": "user", "id": world.sub(person)},
        "resource": {"type": "claim", "id": "BX-1"},
        "evaluations": [{"action": {"name": one}} for one in ("read", "submit", "shred")],
    }
    answer = world.call("POST", "/access/v1/evaluations", json=body, auth=("expense", world.secret))
    assert [one["decision"] for one in answer.json["evaluations"]] == [True, True, False]  # type: ignore[index]
    index_new(world.database, datetime.now(UTC) + timedelta(minutes=1))
    with world.unit() as unit:
        content = load_rules(unit, version_in_force(unit))
    shred = PermissionInput(role="expense:employee", application="expense", type="claim", action="shred")
    rest = tuple(one for one in content.permissions if one.action != "read")
    draft = content.model_copy(update={"permissions": (*rest, shred)})
    with world.database.read(consistent=True) as connection:
        found = replay_decisions(connection, (1, content), (2, draft), 1, datetime.now(UTC), lambda: 0.0)
    assert {(row["name"], row["change"]) for row in found.found.rows} == {
        ("read claim BX-1", "deny"),
        ("shred claim BX-1", "permit"),
    }


def test_a_published_version_is_changed_by_nobody(world: World) -> None:
    row = {"senior_key": "expense:approver", "junior_key": "expense:employee"}
    for statement in (
        delete(PermissionRow).where(PermissionRow.version == 1),
        update(PermissionRow).where(PermissionRow.version == 1).values(pattern="other"),
        insert(RoleInheritance).values(version=1, **row),
        update(PolicyVersion).where(PolicyVersion.version == 1).values(state="draft"),
        delete(PolicyVersion).where(PolicyVersion.version == 1),
    ):
        with pytest.raises(DBAPIError, match="published policy version"), world.database.write() as connection:
            connection.execute(statement)
    with world.unit() as unit:
        assert len(load_rules(unit, 1).permissions) == 4


def test_of_two_drafts_that_are_published_at_once_one_is_and_the_other_is_told(world: World) -> None:
    made = []
    for action in ("one", "two"):
        with world.unit() as unit:
            content = load_rules(unit, version_in_force(unit))
            row = PermissionInput(role="expense:employee", application="expense", type="claim", action=action)
            changed = content.model_copy(update={"permissions": (*content.permissions, row)})
            draft = create_draft(unit, action, content=changed)
            check = ask(unit, "compare", 1, draft.version)
        carry_out(world.units, world.database, world.fresh(), check.id, Actor.system("test"), datetime.now(UTC))
        made.append(draft)
    begin = Barrier(2)

    def publish(draft: PolicyDraft) -> str:
        begin.wait()
        try:
            with world.unit() as unit:
                publish_draft(unit, draft.id, draft.row_version, draft.digest, demo=True)
        except (Conflict, Stale) as error:
            return error.code
        return "published"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(publish, made))
    assert outcomes.count("published") == 1
    with world.unit() as unit:
        states = {row.version: row.state for row in unit.db.execute(select(PolicyDraft)).scalars()}
        winner = made[outcomes.index("published")].version
        assert version_in_force(unit) == winner
        assert sorted(states.values()) == ["editing", "published"]
        assert states[winner] == "published"
