"""What changes about groups is known at once, and costs only those who are in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.access.snapshot import Snapshot, load
from identity.core.facts import Counter
from identity.core.record import Actor
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.people.inputs import GroupInput
from identity.people.service_groups import change_children, change_members, get_group, put_group
from identity.roles.inputs import AssignmentInput
from identity.roles.service_assignments import assign
from tests.security.test_separation import TOWN
from tests.world import World


@pytest.fixture
def town(database_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(database_url, tmp_path, TOWN, groups=("cashiers", "accountants"))
    for name in ("team", "squad", "crew", "others"):
        made.person(f"one-of-{name}", name)
    made.person("outside")
    made.fresh()
    yield made
    made.close()


def group(town: World, name: str) -> UUID:
    with town.unit() as unit:
        found: UUID = get_group(unit, name).id
    return found


def rename(town: World, *steps: tuple[str, str]) -> None:
    """Give groups of a directory other names (immutable id, name), in one act."""
    with town.unit() as unit:
        for key, name in steps:
            put_group(unit, GroupInput(name=name, display_name=name, source_id=source(unit), immutable_id=key))


def source(unit: Unit) -> UUID:
    """A directory from which groups may come; none is read."""
    query = select(DirectorySource.id)
    found = unit.db.execute(query).scalar_one_or_none()
    if found is None:
        row = DirectorySource(code="hq", name="hq", kind="ldif", settings={"path": "none.ldif"}, created_at=unit.now)
        unit.db.add(row)
        unit.db.flush()
        found = row.id
    return found


def nest(town: World, parent: str, *, add: str | None = None, remove: str | None = None, actor: str = "test") -> None:
    more, less = ([group(town, one)] if one else [] for one in (add, remove))
    with town.units.open(Actor.system(actor)) as unit:
        change_children(unit, get_group(unit, parent).id, add=more, remove=less)


def held(snapshot: Snapshot) -> dict[str, set[str]]:
    return {one.login: {step.grant.role for step in one.derivations} for one in snapshot.users.values()}


def true_now(town: World) -> dict[str, set[str]]:
    """What everybody holds by the snapshot that followed the feed; it is what a whole reading says."""
    known = town.fresh()
    with town.database.read() as connection:
        whole = load(connection, connection.execute(select(Counter.facts_revision)).scalar_one())
    assert known.world.group_parents == whole.world.group_parents
    assert {key: user.identity.facts for key, user in known.users.items()} == {
        key: user.identity.facts for key, user in whole.users.items()
    }
    assert {key: set(user.derivations) for key, user in known.users.items()} == {
        key: set(user.derivations) for key, user in whole.users.items()
    }
    return {login: roles for login, roles in held(known).items() if roles}


def test_a_group_put_into_another_brings_its_members_at_any_depth_and_nobody_else_is_read(town: World) -> None:
    nest(town, "squad", add="crew")
    before = town.fresh()
    nest(town, "cashiers", add="team")
    nest(town, "team", add="squad")
    cashiers = {"expense:cashier"}
    assert true_now(town) == dict.fromkeys(("one-of-team", "one-of-squad", "one-of-crew"), cashiers)
    after = town.fresh()
    for user_id, user in before.users.items():
        assert (after.users[user_id] is user) == (user.login in {"one-of-others", "outside"}), user.login
    nest(town, "crew", add="team")
    assert true_now(town) == dict.fromkeys(("one-of-team", "one-of-squad", "one-of-crew"), cashiers), "a circle"
    nest(town, "crew", remove="team")
    nest(town, "team", remove="squad")
    assert true_now(town) == {"one-of-team": cashiers}


def test_a_group_with_another_name_has_what_that_name_has(town: World) -> None:
    ann, bob = (town.person(login) for login in ("ann", "bob"))
    with town.unit() as unit:
        for key, name, user in (("a", "night", ann), ("b", "day", bob)):
            one = put_group(unit, GroupInput(name=name, display_name=name, source_id=source(unit), immutable_id=key))
            change_members(unit, one.id, add=[user])
            change_children(unit, one.id, add=[get_group(unit, "team" if key == "a" else "squad").id])
    with town.unit() as unit:
        assign(unit, AssignmentInput(holder_kind="group", holder_id=get_group(unit, "day").id, role="erp:accounting"))
    given, pool = {"erp:accounting"}, {"expense:maker", "expense:checker"}
    assert true_now(town) == {"bob": given, "one-of-squad": given}
    rename(town, ("a", "pool"))
    assert true_now(town) == {"bob": given, "one-of-squad": given, "ann": pool, "one-of-team": pool}
    rename(town, ("a", "between"), ("b", "pool"), ("a", "day"))
    assert true_now(town) == {"bob": given | pool, "one-of-squad": given | pool}, "an assignment is not to a name"


def test_what_a_nested_group_brings_too_much_is_held_back(town: World) -> None:
    ann = town.person("ann", "cashiers", "crew")
    assert true_now(town) == {"ann": {"expense:cashier"}}
    nest(town, "accountants", add="crew", actor="sync:hq")
    assert true_now(town) == {"ann": {"expense:cashier"}, "one-of-crew": {"erp:accounting"}}
    with town.units.open(Actor.system("sync:hq")) as unit:
        change_members(unit, get_group(unit, "cashiers").id, remove=[ann])
    assert true_now(town) == {"ann": {"erp:accounting"}, "one-of-crew": {"erp:accounting"}}
