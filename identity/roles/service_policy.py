"""Policy versions: a draft is a whole new set of rules; publishing changes the one fact that says which decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import func, insert, select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, Invalid, NotFound, Stale
from identity.core.record import Record
from identity.core.unit import Unit
from identity.roles import rules
from identity.roles.inputs import RoleInput, RuleSetInput
from identity.roles.mapping import BUSINESS, CONSOLE_APPLICATION
from identity.roles.models import (
    DutyRule,
    PermissionRow,
    PolicyInForce,
    PolicyVersion,
    Role,
    RoleInheritance,
    RoleMapping,
)


def version_in_force(unit: Unit) -> int | None:
    """The version that decides, or None on an empty installation."""
    row = unit.facts.current(unit.db, PolicyInForce, {"slot": 1})
    return row.version if row is not None else None


def put_role(
    unit: Unit,
    wanted: RoleInput,
    *,
    application_id: Any = None,
    managed_by: str = "console",
) -> Role:
    """The role with this key is as given; made when it is new. Console roles are built in and refused."""
    unit.require("write", "role", wanted.name)
    prefix = wanted.application or BUSINESS
    if prefix == CONSOLE_APPLICATION:
        raise Conflict("Administration roles are built in.", code="built_in")
    key = f"{prefix}:{wanted.name}"
    row = find_role(unit, key)
    if row is None:
        row = Role(
            key=key,
            application_id=application_id,
            name=wanted.name,
            title=wanted.title,
            description=wanted.description,
            managed_by=managed_by,
            created_at=unit.now,
        )
        unit.db.add(row)
        unit.db.flush()
        _record(unit, Kind.ROLE_CREATED, "role", key, after={"title": row.title})
    elif (row.title, row.description) != (wanted.title, wanted.description):
        before = {"title": row.title, "description": row.description}
        row.title, row.description = wanted.title, wanted.description
        after = {"title": row.title, "description": row.description}
        _record(unit, Kind.ROLE_CHANGED, "role", key, before=before, after=after)
    return row


def find_role(unit: Unit, key: str) -> Role | None:
    """The role with this key."""
    return unit.db.execute(select(Role).where(Role.key == key)).scalar_one_or_none()


def load_rules(unit: Unit, version: int | None) -> RuleSetInput:
    """The content of a version; empty for None. Raises `NotFound`."""
    if version is None:
        return RuleSetInput()
    if unit.db.get(PolicyVersion, version) is None:
        raise NotFound(f"There is no policy version {version}.")
    return rules.load(unit.db.connection(), version)


def save_version(unit: Unit, content: RuleSetInput, *, based_on: int | None, note: str) -> int:
    """A new draft with this content; raises `Invalid` with every problem that validation finds.

    Raises `Stale` when `based_on` is not the version in force any more.
    """
    unit.require("write", "policy", "draft")
    if based_on != version_in_force(unit):
        raise Stale("The rules have changed since this page was loaded.", code="stale_policy")
    known = set(unit.db.execute(select(Role.key)).scalars())
    problems = rules.problems(content, known)
    if problems:
        raise Invalid(
            "The rules are not valid: " + "; ".join(problems[:10]),
            code="invalid_policy",
        )
    version = (unit.db.execute(select(func.max(PolicyVersion.version))).scalar() or 0) + 1
    unit.db.add(
        PolicyVersion(
            version=version,
            based_on=based_on,
            state="draft",
            note=note,
            created_by=unit.actor.id,
            created_at=unit.now,
        )
    )
    unit.db.flush()
    for table, rows in (
        (PermissionRow, rules.permission_rows(content, version)),
        (RoleInheritance, rules.inheritance_rows(content, version)),
        (RoleMapping, rules.mapping_rows(content, version)),
        (DutyRule, rules.duty_rows(content, version)),
    ):
        if rows:
            unit.db.execute(insert(table), rows)
    return version


def publish(unit: Unit, version: int, about: Mapping[str, Any] | None = None) -> None:
    """This version decides from the commit on; the record names what was added and removed, and `about` whence it
    comes. Where a second person publishes, the commit is refused unless one has (`access.publishing`)."""
    unit.require("write", "policy", str(version))
    row = unit.db.get(PolicyVersion, version)
    if row is None:
        raise NotFound(f"There is no policy version {version}.")
    before = version_in_force(unit)
    row.state = "published"
    unit.facts.put(unit.db, PolicyInForce, {"slot": 1}, {"version": version})
    unit.facts.touch("policy")
    old, new = load_rules(unit, before), load_rules(unit, version)
    _record(
        unit,
        Kind.POLICY_PUBLISHED,
        "policy",
        str(version),
        before={"version": before},
        after={"version": version, "note": row.note, **rules.difference(old, new)},
        data=about or {},
    )


def change_rules(unit: Unit, content: RuleSetInput, *, based_on: int | None, note: str) -> int | None:
    """Draft and publish in one act; the new version, or None when nothing would change."""
    if based_on is not None and digest(load_rules(unit, based_on)) == digest(content):
        return None
    version = save_version(unit, content, based_on=based_on, note=note)
    publish(unit, version)
    return version


def digest(content: RuleSetInput) -> str:
    """A name for this content that does not depend on the order of its rows."""
    parts = {
        name: sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode() for row in rows)
        for name, rows in content.model_dump(mode="json").items()
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _record(unit: Unit, kind: Kind, resource_type: str, resource_id: str, **parts: Any) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            resource_type=resource_type,
            resource_id=resource_id,
            **parts,
        )
    )
