"""From values of the areas to what a page shows. Pure: no request, no tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson

from identity.audit.kinds import SENTENCES, Kind
from identity.audit.query import Row
from identity.console import words
from identity.core.hot import parse_uuid
from identity.core.i18n import gettext_noop as _
from identity.roles.inputs import MappingInput
from identity.roles.mapping import BUSINESS, Derivation
from policies import Amount, Grant, Scope

MENU = (
    ("", (("/admin", _("Overview"), "sso", "application"),)),
    (
        _("People"),
        (
            ("/admin/users", _("Users"), "read", "user"),
            ("/admin/groups", _("Groups"), "read", "group"),
            ("/admin/sync", _("Directories"), "read", "sync"),
        ),
    ),
    (
        _("Access"),
        (
            ("/admin/roles", _("Roles"), "read", "role"),
            ("/admin/mappings", _("Role mappings"), "read", "mapping"),
            ("/admin/assignments", _("Assignments"), "read", "assignment"),
            ("/admin/grants", _("Rights to grant"), "read", "admin_grant"),
            ("/admin/administrators", _("Administrators"), "read", "administrator"),
            ("/admin/duties", _("Separated duties"), "read", "duty"),
            ("/admin/policy", _("Policy versions"), "read", "policy"),
            ("/admin/holdings", _("Who had what"), "read", "role"),
            ("/admin/explain", _("Decision explanation"), "read", "decision"),
            ("/admin/applications", _("Applications"), "read", "application"),
        ),
    ),
    (
        _("Record"),
        (
            ("/admin/audit", _("Audit"), "read", "audit"),
            ("/admin/reports", _("Reports"), "read", "audit"),
            ("/admin/alarms", _("Alarms"), "read", "audit"),
        ),
    ),
)
"""The console's places: (title, ((address, name, action, resource type), …)); a name is a message id."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of how a role came about: its kind, what it is called, and the page that shows it."""

    kind: str
    text: str
    note: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A membership as a page shows it."""

    role: str
    title: str
    scope: str
    limit: str
    valid_until: Any
    path: tuple[Step, ...]


def role_address(key: str) -> str:
    return f"/admin/roles/{quote(key, safe='')}"


def held(
    derivations: Iterable[Derivation],
    titles: Mapping[str, str],
    groups: Mapping[str, UUID],
    assignments: Mapping[str, str],
) -> list[Held]:
    """Memberships with their derivations, business roles first. `groups` are ids by name, `assignments` who assigned
    it by id."""
    found = []
    for one in derivations:
        grant = one.grant
        steps = tuple(_step(text, titles, groups, assignments) for text in one.steps if _shown(text, grant.role))
        found.append(
            Held(
                grant.role,
                words.role_title(grant.role, titles),
                scope_text(grant.scope),
                str(grant.limit) if grant.limit else "",
                grant.valid_until,
                steps,
            )
        )
    return sorted(found, key=lambda one: (not one.role.startswith(f"{BUSINESS}:"), one.role, one.scope))


def _shown(text: str, role: str) -> bool:
    """The role itself stands in its own column; mapping rows are the arrows between the steps."""
    return text != f"role:{role}" and not text.startswith("mapping:")


def origin(steps: Iterable[str], role: str) -> list[str]:
    """The steps that led to a role as short texts."""
    return [one.partition(":")[2] for one in steps if _shown(one, role) and not one.startswith("assignment:")]


def _step(text: str, titles: Mapping[str, str], groups: Mapping[str, UUID], assignments: Mapping[str, str]) -> Step:
    kind, _, name = text.partition(":")
    if kind == "group":
        return Step(kind, name, href=f"/admin/groups/{groups[name]}" if name in groups else "")
    if kind == "role":
        return Step(kind, name, words.role_title(name, titles), role_address(name))
    if kind == "assignment":
        return Step(kind, assignments.get(name, ""))
    return Step(kind, name)


def scope_text(scope: Scope) -> str:
    return " / ".join(part for part in scope if part)


def grant_text(grant: Grant) -> str:
    """Scope and limit of a grant in one line; empty for one without."""
    parts = [scope_text(grant.scope), f"≤ {grant.limit}" if grant.limit else ""]
    return " · ".join(filter(None, parts))


def limit_text(row: MappingInput) -> str:
    return str(Amount.parse(row.limit)) if row.limit else ""


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser(user_agent: str) -> str:
    """A browser as people call it (“Chrome · Windows”), from the header that it sent; its start when unknown."""
    names = [next((name for mark, name in table if mark in user_agent), "") for table in (_BROWSERS, _SYSTEMS)]
    return " · ".join(filter(None, names)) or re.sub(r"\s.*", "", user_agent)[:40]


def sentence(row: Row, names: Mapping[UUID, str]) -> str:
    """What happened, in the reader's language; an item of a batch is a decision like any other."""
    body, data = row.body, row.body.get("data", {})
    person = row.person or parse_uuid(str(body.get("person", "")))
    kind = Kind.DECISION_MADE if row.item else row.kind
    return words.fill(
        SENTENCES.get(kind, kind),  # type: ignore[call-overload]
        {
            "actor": body.get("actor", {}).get("name"),
            "person": names.get(person) if person else None,
            "application": row.application,
            "action": row.action,
            "object": row.resource_id,
            "resource": " ".join(filter(None, (row.resource_type, row.resource_id))),
            "login": data.get("login"),
            "group": data.get("group"),
        },
    )


def pairs(value: Any) -> list[tuple[str, str]]:
    """A nested value as (name, text) lines: `after.scope.company`; lists of plain values on one line."""
    if not isinstance(value, Mapping):
        return [("", _text(value))] if value not in (None, {}, []) else []
    found = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            found += [(f"{name}.{below}" if below else str(name), text) for below, text in pairs(inner)]
        else:
            found.append((str(name), _text(inner)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, list) and all(not isinstance(one, (dict, list)) for one in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def changes(body: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(field, before, after) of a change record."""
    before, after = dict(pairs(body.get("before"))), dict(pairs(body.get("after")))
    return [(name, before.get(name, ""), after.get(name, "")) for name in dict.fromkeys((*before, *after))]


def plan_detail(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(field, before, after) of a planned change; of lists their length, nothing of what is technical."""
    names = [name for name in dict.fromkeys((*before, *after)) if name not in {"dn", "user_id", "parent"}]
    return [(name, _short(before.get(name)), _short(after.get(name))) for name in names]


def _short(value: Any) -> str:
    if value is None or value == []:
        return ""
    return str(len(value)) if isinstance(value, list) else str(value)
