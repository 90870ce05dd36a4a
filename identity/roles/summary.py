"""A rule in one line, whole: two different rules never read alike, or an approver would not see what he publishes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from identity.roles.inputs import DutyRuleInput, InheritanceInput, MappingInput, PermissionInput


def summary(row: PermissionInput | InheritanceInput | MappingInput | DutyRuleInput) -> str:
    """The row as `role action application/type pattern · …`, with everything that it says."""
    match row:
        case PermissionInput():
            effect = "" if row.effect == "permit" else "deny "
            return _joined(
                f"{row.role} {effect}{row.action} {row.application}/{row.type} {row.pattern}",
                f"if {row.condition}" if row.condition else "",
                "inherited" if row.inherited else "",
                f"obligations {_json(row.obligations)}" if row.obligations else "",
                *_times(row),
            )
        case InheritanceInput():
            return f"{row.senior} → {row.junior}"
        case MappingInput():
            scope = {name: value for name, value in row.scope.model_dump(exclude={"transform"}).items() if value}
            return _joined(
                f"{row.source_kind} {row.source} → {'no ' if row.exclude else ''}{row.role}",
                row.scope.transform if scope or row.scope.transform != "inherit" else "",
                *(f"{name} {value}" for name, value in scope.items()),
                f"≤ {row.limit['value']} {row.limit['currency']}" if row.limit else "",
                f"if {row.condition}" if row.condition else "",
                *_times(row),
            )
        case DutyRuleInput():
            return _joined(f"{row.id} {row.title}", row.kind, row.level, *_definition(row.definition))


def _definition(definition: Mapping[str, Any]) -> Iterator[str]:
    """What a duty rule separates: `one | other` for sides; what is not of a known form as JSON."""
    rest = dict(definition)
    sides = rest.pop("sides", ())
    if sides:
        yield " | ".join(_side(one) for one in sides)
    for name in ("roles", "actions"):
        values = rest.pop(name, ())
        if values:
            yield f"{name} {', '.join(map(str, values))}"
    for name, value in sorted(rest.items()):
        yield f"{name} {value if isinstance(value, str | int) else _json(value)}"


def _side(side: Mapping[str, Any]) -> str:
    entries = [*side.get("roles", ()), *(":".join(map(str, one)) for one in side.get("permissions", ()))]
    return ", ".join(map(str, entries))


def _times(row: PermissionInput | MappingInput) -> Iterator[str]:
    if row.valid_from:
        yield f"from {row.valid_from.isoformat(timespec='minutes')}"
    if row.valid_until:
        yield f"until {row.valid_until.isoformat(timespec='minutes')}"


def _joined(*parts: str) -> str:
    return " · ".join(filter(None, parts))


def _json(value: Any) -> str:
    return orjson.dumps(
        list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else value
    ).decode()
