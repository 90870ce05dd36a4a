"""The content of a policy version: between rows, accepted shapes, and the values that the engine takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, select

from identity.roles.inputs import (
    DutyRuleInput,
    InheritanceInput,
    MappingInput,
    PermissionInput,
    RuleSetInput,
    ScopeTransform,
)
from identity.roles.mapping import BUSINESS, CONSOLE_APPLICATION, MappingRule
from identity.roles.models import DutyRule, PermissionRow, RoleInheritance, RoleMapping
from policies import (
    Amount,
    Carrier,
    Condition,
    DynamicDuty,
    ObjectDuty,
    Permission,
    RuleSet,
    Scope,
    Side,
    StaticDuty,
    compile_condition,
    validate,
)
from policies.conditions import ConditionError


def row_id(row: Any) -> str:
    """A stable short name of a row from its content, so that the same row has the same id in every version."""
    data = orjson.dumps(row.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()[:16]


def load(connection: Connection, version: int) -> RuleSetInput:
    """Read a version's rows."""

    def rows(model: Any) -> Iterable[Any]:
        table = model.__table__
        # In a fixed order, so that a decision names the same rule whenever it is made again.
        return connection.execute(select(table).where(table.c.version == version).order_by(*table.primary_key)).all()

    return RuleSetInput(
        permissions=tuple(
            PermissionInput(
                role=row.role_key,
                application=row.application,
                type=row.resource_type,
                pattern=row.pattern,
                action=row.action,
                effect=row.effect,
                condition=row.condition,
                obligations=tuple(row.obligations),
                inherited=row.inherited,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
            for row in rows(PermissionRow)
        ),
        inheritance=tuple(
            InheritanceInput(senior=row.senior_key, junior=row.junior_key) for row in rows(RoleInheritance)
        ),
        mappings=tuple(
            MappingInput(
                source_kind=row.source_kind,
                source=row.source_id,
                role=row.role_key,
                exclude=row.exclude,
                condition=row.condition,
                scope=ScopeTransform(**row.scope),
                limit=row.limit,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
            for row in rows(RoleMapping)
        ),
        duties=tuple(
            DutyRuleInput(
                id=row.id,
                kind=row.kind,
                title=row.title,
                level=row.level,
                definition=row.definition,
            )
            for row in rows(DutyRule)
        ),
    )


def permission_rows(content: RuleSetInput, version: int) -> list[dict[str, Any]]:
    """Rows of `permission`."""
    return [
        {
            "version": version,
            "id": row_id(one),
            "role_key": one.role,
            "resource_type": one.type,
            "obligations": list(one.obligations),
            **one.model_dump(exclude={"role", "type", "obligations"}),
        }
        for one in content.permissions
    ]


def inheritance_rows(content: RuleSetInput, version: int) -> list[dict[str, Any]]:
    """Rows of `role_inheritance`."""
    return [{"version": version, "senior_key": one.senior, "junior_key": one.junior} for one in content.inheritance]


def mapping_rows(content: RuleSetInput, version: int) -> list[dict[str, Any]]:
    """Rows of `role_mapping`."""
    return [
        {
            "version": version,
            "id": row_id(one),
            "source_id": one.source,
            "role_key": one.role,
            "scope": one.scope.model_dump(exclude_none=True),
            **one.model_dump(exclude={"source", "role", "scope"}),
        }
        for one in content.mappings
    ]


def duty_rows(content: RuleSetInput, version: int) -> list[dict[str, Any]]:
    """Rows of `duty_rule`."""
    return [{"version": version, **one.model_dump()} for one in content.duties]


def mapping_rules(content: RuleSetInput) -> tuple[MappingRule, ...]:
    """The mapping rows as the builder takes them; conditions compiled once."""
    return tuple(
        MappingRule(
            id=row_id(one),
            source_kind=one.source_kind,
            source=one.source,
            role=one.role,
            exclude=one.exclude,
            condition=_mapping_condition(one) if one.condition is not None else None,
            transform=one.scope.transform,
            scope=Scope(one.scope.company, one.scope.org_unit, one.scope.business_type),
            limit=Amount.parse(one.limit) if one.limit else None,
            valid_from=one.valid_from,
            valid_until=one.valid_until,
        )
        for one in content.mappings
    )


def rule_set(content: RuleSetInput, version: int, built_in: Sequence[Permission] = ()) -> RuleSet:
    """The version as the engine takes it, with the console's built-in permissions."""
    return RuleSet(
        version=version,
        permissions=(
            *built_in,
            *(
                Permission(
                    id=row_id(one),
                    role=one.role,
                    application=one.application,
                    resource_type=one.type,
                    pattern=one.pattern,
                    action=one.action,
                    effect=one.effect,
                    condition=one.condition,
                    obligations=one.obligations,
                    inherited=one.inherited,
                    valid_from=one.valid_from,
                    valid_until=one.valid_until,
                )
                for one in content.permissions
            ),
        ),
        inheritance=tuple((one.senior, one.junior) for one in content.inheritance),
        static_duties=tuple(_static(one.id, one.definition) for one in content.duties if one.kind == "static"),
        dynamic_duties=tuple(
            DynamicDuty(one.id, tuple(one.definition["roles"]), int(one.definition["n"]))
            for one in content.duties
            if one.kind == "dynamic"
        ),
        object_duties=tuple(
            ObjectDuty(
                one.id,
                one.definition["application"],
                one.definition["type"],
                tuple(one.definition["actions"]),
            )
            for one in content.duties
            if one.kind == "object"
        ),
    )


def _static(rule_id: str, definition: Mapping[str, Any]) -> StaticDuty:
    return StaticDuty(
        rule_id,
        tuple(definition.get("roles", ())),
        int(definition["n"]),
        definition["scope"],
        tuple(
            Side(tuple(side.get("roles", ())), tuple(Carrier(*one) for one in side.get("permissions", ())))
            for side in definition.get("sides", ())
        ),
    )


def problems(content: RuleSetInput, known_roles: set[str]) -> list[str]:
    """What is wrong with this content, as sentences; empty when it may be stored."""
    found = [*_repeated(content), *_misplaced(content), *_mapping_problems(content, known_roles)]
    try:
        built = rule_set(content, 0)
        mapping_rules(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [*found, f"malformed rule: {error}"]
    return [*found, *validate(built, known_roles)]


def _repeated(content: RuleSetInput) -> list[str]:
    found = []
    for name, rows in (("permission", content.permissions), ("mapping", content.mappings)):
        ids = [row_id(one) for one in rows]
        if len(ids) != len(set(ids)):
            found.append(f"a {name} stands twice")
    keys = Counter(one.id for one in content.duties)
    found += [f"duty rule {key} stands twice" for key, times in keys.items() if times > 1]
    if len(content.inheritance) != len(set(content.inheritance)):
        found.append("an inheritance stands twice")
    return found


def _misplaced(content: RuleSetInput) -> list[str]:
    console = f"{CONSOLE_APPLICATION}:"
    found = [
        "permissions of the console are built in"
        for row in content.permissions
        if row.application == CONSOLE_APPLICATION
    ]
    found += [
        f"role {row.role} cannot carry a permission of {row.application}"
        for row in content.permissions
        if not row.role.startswith((f"{row.application}:", f"{BUSINESS}:"))
    ]
    edges = [key for edge in content.inheritance for key in (edge.senior, edge.junior)]
    return found + ["administration roles stand in no hierarchy" for key in edges if key.startswith(console)]


def _mapping_problems(content: RuleSetInput, known_roles: set[str]) -> list[str]:
    found = []
    for one in content.mappings:
        if one.role.startswith(f"{CONSOLE_APPLICATION}:"):
            found.append("administration roles never come from a mapping")
        if one.role not in known_roles:
            found.append(f"unknown role {one.role}")
        if one.source_kind == "business_role" and one.source not in known_roles:
            found.append(f"unknown business role {one.source}")
    return found


def difference(old: RuleSetInput, new: RuleSetInput) -> dict[str, Any]:
    """What a new version adds and removes, for the record."""
    changes: dict[str, Any] = {}
    for name in RuleSetInput.model_fields:
        before = {row_id(row): row.model_dump(mode="json", exclude_defaults=True) for row in getattr(old, name)}
        after = {row_id(row): row.model_dump(mode="json", exclude_defaults=True) for row in getattr(new, name)}
        added = [after[key] for key in after.keys() - before.keys()]
        removed = [before[key] for key in before.keys() - after.keys()]
        if added:
            changes[f"{name}_added"] = added[:200]
        if removed:
            changes[f"{name}_removed"] = removed[:200]
    return changes


def _mapping_condition(row: MappingInput) -> Any:
    """A mapping row's condition over the person's attributes. An error never adds a membership, and it never keeps
    one that the row would exclude."""
    compiled: Condition = compile_condition(row.condition or "")

    def holds(attributes: Any) -> bool:
        try:
            return compiled.holds({"subject": {"properties": attributes}})
        except ConditionError:
            return row.exclude

    return holds
