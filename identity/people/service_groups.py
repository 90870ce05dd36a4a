"""Groups and who is in them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.inputs import GroupInput
from identity.people.models import Group, GroupEdge, Membership


def put_group(unit: Unit, wanted: GroupInput) -> Group:
    """The group of this source and immutable id (or, without a source, of this name) is as given."""
    unit.require("write", "group", wanted.name)
    query = select(Group).where(Group.name == wanted.name)
    if wanted.source_id is not None:
        query = select(Group).where(
            Group.source_id == wanted.source_id,
            Group.immutable_id == wanted.immutable_id,
        )
    row = unit.db.execute(query).scalar_one_or_none()
    if row is None:
        row = Group(**wanted.model_dump(), created_at=unit.now)
        unit.db.add(row)
        unit.db.flush()
        _record(unit, Kind.GROUP_CREATED, row, after=wanted.display_name)
    elif (row.name, row.display_name, row.dn) != (
        wanted.name,
        wanted.display_name,
        wanted.dn,
    ):
        if row.name != wanted.name:
            unit.facts.touch("group", [row.id])  # mapping rows name groups
        row.name, row.display_name, row.dn = wanted.name, wanted.display_name, wanted.dn
        _record(unit, Kind.GROUP_CHANGED, row, after=wanted.display_name)
    return row


def find_group(unit: Unit, name: str) -> Group | None:
    """The group of this name."""
    return unit.db.execute(select(Group).where(Group.name == name)).scalar_one_or_none()


def get_group(unit: Unit, name: str) -> Group:
    """The group of this name; raises `NotFound`."""
    row = find_group(unit, name)
    if row is None:
        raise NotFound(f"There is no group {name!r}.")
    return row


def change_members(unit: Unit, group_id: UUID, *, add: Iterable[UUID] = (), remove: Iterable[UUID] = ()) -> int:
    """Put identities into a group and take others out; the number of facts that changed."""
    group = _writable(unit, group_id)
    added = [
        user_id
        for user_id in add
        if unit.facts.put(unit.db, Membership, {"group_id": group_id, "user_id": user_id}, {})
    ]
    removed = [
        user_id
        for user_id in remove
        if unit.facts.drop(unit.db, Membership, {"group_id": group_id, "user_id": user_id})
    ]
    for kind, users in (
        (Kind.GROUP_MEMBER_ADDED, added),
        (Kind.GROUP_MEMBER_REMOVED, removed),
    ):
        for user_id in users:
            _record(unit, kind, group, user=user_id)
    if added or removed:
        unit.facts.touch("user", [*added, *removed])
    return len(added) + len(removed)


def change_children(unit: Unit, group_id: UUID, *, add: Iterable[UUID] = (), remove: Iterable[UUID] = ()) -> int:
    """Nest groups below a group and take others out. A cycle is kept as the directory has it: readers of group
    edges terminate on cycles and give nobody anything by them."""
    group = _writable(unit, group_id)
    changed = 0
    for child_id in add:
        if child_id == group_id:
            raise Conflict("A group cannot be in itself.", code="group_cycle")
        key = {"parent_id": group_id, "child_id": child_id}
        if unit.facts.put(unit.db, GroupEdge, key, {}):
            _record(unit, Kind.GROUP_NESTED, group, after=str(child_id))
            changed += 1
    for child_id in remove:
        if unit.facts.drop(unit.db, GroupEdge, {"parent_id": group_id, "child_id": child_id}):
            _record(unit, Kind.GROUP_UNNESTED, group, after=str(child_id))
            changed += 1
    if changed:
        unit.facts.touch("group", [group_id])
    return changed


def _writable(unit: Unit, group_id: UUID) -> Group:
    group = unit.db.get(Group, group_id)
    if group is None:
        raise NotFound("There is no such group.")
    unit.require("write", "group", group.name)
    return group


def _record(
    unit: Unit,
    kind: Kind,
    group: Group,
    after: str | None = None,
    user: UUID | None = None,
) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=user,
            resource_type="group",
            resource_id=group.name,
            data={"group": group.name},
            after={"value": after} if after is not None else None,
        )
    )
