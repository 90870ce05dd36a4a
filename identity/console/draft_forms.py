"""From the forms of a draft's pages to a change of its rules. Pure: no request, no tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from identity.console.inputs import parse_day, valid
from identity.core.errors import Invalid, NotFound
from identity.roles import rules
from identity.roles.draft_rows import PARTS, Delta, by_id
from identity.roles.inputs import (
    DutyRuleInput,
    InheritanceInput,
    MappingInput,
    PermissionInput,
    RuleSetInput,
    ScopeTransform,
)

Form = Mapping[str, str]
# An end is the end of its day: the form shows the day.
_A_SECOND = timedelta(seconds=1)


def change_of_form(form: Form, content: RuleSetInput, zone: ZoneInfo) -> Delta:
    """Rows that the form adds (in the place of the one that it names in `replace`, if any), or the one that it names in
    `remove`. Raises `Invalid`, and `NotFound` for a row that is not there."""
    part = part_of(form.get("part", ""))
    present = by_id(content, part)
    gone = form.get("remove") or form.get("replace")
    if gone and gone not in present:
        raise NotFound("There is no such rule any more.")
    removed = {gone: present[gone]} if gone else {}
    if form.get("remove"):
        return Delta(part, {}, removed)
    added = [valid(one) for one in _ROWS[part](form, zone)]
    return Delta(part, {rules.row_id(one): one for one in added}, removed)


def undo_of_form(form: Form, base: RuleSetInput, mine: RuleSetInput) -> Delta:
    """The change that takes back what the draft did with one row, named in `undo`."""
    part, key = part_of(form.get("part", "")), form.get("undo", "")
    before, after = by_id(base, part), by_id(mine, part)
    if key in after and key not in before:
        return Delta(part, {}, {key: after[key]})
    if key in before and key not in after:
        return Delta(part, {key: before[key]}, {})
    raise NotFound("There is no such change any more.")


def part_of(text: str) -> str:
    """The part of a version that a page or form names; raises `NotFound`."""
    if text not in PARTS:
        raise NotFound("There is no such page.")
    return text


def mapping_of_form(form: Form, zone: ZoneInfo) -> MappingInput:
    """The mapping row of a form; raises `Invalid`."""
    kind, _sep, source = form.get("source", "").partition("|")
    if not source or not form.get("role"):
        raise Invalid("Please say from what and to which role.", code="form")
    return valid(lambda: _mapping(form, kind, source, zone))


def _mapping(form: Form, kind: str, source: str, zone: ZoneInfo) -> MappingInput:
    amount = form.get("limit", "").strip()
    scope = {name: form.get(name, "").strip() or None for name in ("company", "org_unit", "business_type")}
    return MappingInput(
        source_kind=kind,  # type: ignore[arg-type]
        source=source,
        role=form.get("role", ""),
        exclude=bool(form.get("exclude")),
        condition=form.get("condition", "").strip() or None,
        scope=ScopeTransform(transform="narrow" if any(scope.values()) else "inherit", **scope),
        limit={"value": amount, "currency": form.get("currency", "").strip() or "CNY"} if amount else None,
        **_validity(form, zone),
    )


_Maker = Callable[[], Any]


def _permissions(form: Form, zone: ZoneInfo) -> list[_Maker]:
    """A row for each action, which are separated by commas or spaces."""
    actions = list(dict.fromkeys(re.split(r"[\s,，]+", form.get("action", "").strip())))
    role = form.get("role", "")

    def one(action: str) -> PermissionInput:
        return PermissionInput(
            role=role,
            application=form.get("application", "").strip() or role.partition(":")[0],
            type=form.get("type", "").strip(),
            pattern=form.get("pattern", "").strip() or "**",
            action=action,
            effect="deny" if form.get("effect") == "deny" else "permit",
            condition=form.get("condition", "").strip() or None,
            inherited=bool(form.get("inherited")),
            **_validity(form, zone),
        )

    return [lambda action=action: one(action) for action in actions]  # type: ignore[misc]


def _inheritance(form: Form, _zone: ZoneInfo) -> list[_Maker]:
    return [lambda: InheritanceInput(senior=form.get("senior", ""), junior=form.get("junior", ""))]


def _mappings(form: Form, zone: ZoneInfo) -> list[_Maker]:
    return [lambda: mapping_of_form(form, zone)]


def _duties(form: Form, _zone: ZoneInfo) -> list[_Maker]:
    kind = form.get("kind", "")
    if kind == "object":
        definition: dict[str, Any] = {
            "application": form.get("application", "").strip(),
            "type": form.get("type", "").strip(),
            "actions": re.split(r"[\s,，]+", form.get("actions", "").strip()),
        }
    elif kind == "dynamic":
        definition = {"roles": _lines(form.get("a", "")), "n": 2}
    else:
        sides = [_side(form.get(name, "")) for name in ("a", "b")]
        definition = {"sides": sides, "n": 2, "scope": form.get("scope", "company")}

    def one() -> DutyRuleInput:
        return DutyRuleInput(
            id=form.get("id", "").strip(),
            kind=kind,  # type: ignore[arg-type]
            title=form.get("title", "").strip(),
            level=form.get("level", "H"),  # type: ignore[arg-type]
            definition=definition,
        )

    return [one]


def _side(text: str) -> dict[str, Any]:
    """One entry a line: a role's key, or an application, a type and an action."""
    entries = [line.split() for line in _lines(text)]
    if any(len(one) not in {1, 3} for one in entries):
        raise Invalid("A duty is a role's key, or an application, a type and an action.", code="form")
    return {
        "roles": [one[0] for one in entries if len(one) == 1],
        "permissions": [one for one in entries if len(one) == 3],
    }


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


_ROWS: Mapping[str, Callable[[Form, ZoneInfo], list[_Maker]]] = {
    "permissions": _permissions,
    "inheritance": _inheritance,
    "mappings": _mappings,
    "duties": _duties,
}


def _validity(form: Form, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "valid_from": parse_day(form.get("valid_from", ""), zone),
        "valid_until": parse_day(form.get("valid_until", ""), zone, end=True),
    }


def mapping_values(row: MappingInput, zone: ZoneInfo) -> dict[str, str]:
    """The fields of a mapping's form, filled with this row."""

    def day(value: Any) -> str:
        return value.astimezone(zone).strftime("%Y-%m-%d") if value else ""

    return {
        "source": f"{row.source_kind}|{row.source}",
        "role": row.role,
        "exclude": "1" if row.exclude else "",
        "company": row.scope.company or "",
        "org_unit": row.scope.org_unit or "",
        "business_type": row.scope.business_type or "",
        "limit": str(row.limit["value"]) if row.limit else "",
        "currency": row.limit["currency"] if row.limit else "CNY",
        "condition": row.condition or "",
        "valid_from": day(row.valid_from),
        "valid_until": day(row.valid_until - _A_SECOND if row.valid_until else None),
    }
