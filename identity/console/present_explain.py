"""An explanation as a page shows it: who asked what, the chain that decided, other ways, what was missing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from identity.access.explain import Explanation, Missing, Origin, Step, Way
from identity.console import words
from identity.console.present import grant_text, pairs, role_address, scope_text
from identity.core.hot import parse_uuid
from identity.core.i18n import gettext as _
from identity.roles.near import Offer
from policies import Amount, Check, Permission


@dataclass(frozen=True, slots=True)
class Node:
    """A step as the picture draws it. `kind` is a label's code; `tone` is empty, ok, warn or bad."""

    kind: str
    title: str
    note: str = ""
    href: str = ""
    code: str = ""
    origin: Origin | None = None
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Tested:
    """A check: what was demanded, what was stated, and the reason where it failed."""

    name: str
    wanted: str
    stated: str
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """A way with its picture and checks."""

    way: Way
    nodes: tuple[Node, ...]
    tests: tuple[Tested, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What things are called beside their names in the rules."""

    titles: Mapping[str, str]
    """Roles by key."""
    groups: Mapping[str, UUID]
    sources: Mapping[str, str]
    """Groups by name → the directory that they come from."""
    persons: Mapping[UUID, str]
    units: Mapping[str, str]
    """Units and positions by code."""


def told(found: Explanation, way: Way, known: Known) -> Told:
    """The way from the person to the decision."""
    nodes = [_person(found, known)]
    for step in way.steps:
        before = nodes[-1].kind
        nodes.append(_node(step, before, way, known))
    denies = way.permission.effect == "deny"
    end = way.code or ("denied" if denies else "permitted")
    if way.permission.condition:
        failed = any(one.name == "condition" and one.code for one in way.checks)
        nodes.append(Node("condition", way.permission.condition, tone="bad" if failed else "ok"))
    if way.decisive:
        reason, tone = found.reason, "ok" if found.permit else "bad"
        nodes.append(
            Node(
                "decision",
                words.label("permit" if found.permit else "deny"),
                words.reason(reason),
                "",
                reason,
                tone=tone,
            )
        )
        if found.recorded:
            address = f"/admin/audit/{found.recorded.id}"
            nodes.append(Node("record", str(found.recorded.id), "", address))
    else:
        nodes.append(Node("decision", words.reason(end), "", "", end, tone="" if way.code else "warn"))
    return Told(way, tuple(nodes), tuple(_tested(one, found, way) for one in way.checks if _worth(one, way)))


def _person(found: Explanation, known: Known) -> Node:
    user = found.user
    if user is None:
        return Node("person", str(found.request.user or "–"))
    return Node("person", known.persons.get(user.person_id, user.login), user.login, f"/admin/users/{user.id}")


def _node(step: Step, before: str, way: Way, known: Known) -> Node:
    kind, name, origin = step.kind, step.id, step.origin
    if kind == "group":
        note = _("the group above is nested in it") if before == "group" else known.sources.get(name, "")
        href = f"/admin/groups/{known.groups[name]}" if name in known.groups else ""
        return Node(kind, name, note, href)
    if kind == "role":
        inherited = (
            _("inherited from it") if before == "role" else grant_text(way.grant) if name == way.grant.role else ""
        )
        title = words.role_title(name, known.titles)
        shown = name.partition(":")[2]
        return Node(
            kind,
            shown,
            " · ".join(filter(None, (title if title != shown else "", inherited))),
            role_address(name),
            name.partition(":")[0],
        )
    if kind == "mapping":
        query = urlencode({"application": _target(step, way)})
        return Node(kind, _("mapping row"), "", f"/admin/mappings?{query}", name, origin)
    if kind == "permission":
        return Node(kind, _permission(way.permission), words.label(way.permission.effect), "", name, origin)
    if kind == "assignment":
        return Node(
            kind,
            _("by %(who)s") % {"who": origin.by} if origin else _("direct"),
            origin.note if origin else "",
            "",
            name,
            origin,
        )
    return Node(kind, known.units.get(name, name), "", "", name if name in known.units else "")


def _target(step: Step, way: Way) -> str:
    """The application of the role that the row leads to."""
    after = way.steps[way.steps.index(step) + 1 :]
    return next((one.id.partition(":")[0] for one in after if one.kind == "role"), "")


def _permission(one: Permission) -> str:
    where = "" if one.pattern == "**" else f" {one.pattern}"
    return f"{one.action} {one.resource_type}{where}"


def _worth(check: Check, way: Way) -> bool:
    """A permission without validity needs no line about it."""
    one = way.permission
    return check.name != "rule_validity" or one.valid_from is not None or one.valid_until is not None


def _tested(check: Check, found: Explanation, way: Way) -> Tested:
    stated, grant = found.request.properties, way.grant
    amount = stated.get("amount")
    wanted, said = "", ""
    if check.name == "scope":
        wanted = scope_text(grant.scope) or _("everywhere")
        said = " / ".join(str(stated[name]) for name in grant.scope._fields if stated.get(name))
    elif check.name == "limit":
        wanted = f"≤ {grant.limit}" if grant.limit else _("none")
        said = str(amount) if isinstance(amount, Amount) else ""
    elif check.name == "condition":
        wanted = way.permission.condition or ""
    return Tested(check.name, wanted, said, check.code)


@dataclass(frozen=True, slots=True)
class Lacking:
    """A permission that was missing, and the rows that would give it: (from kind, from, to role, why, offer)."""

    missing: Missing
    permission: str
    role: str
    offers: tuple[Offer, ...]


def lacking(found: Explanation) -> list[Lacking]:
    """What was missing; a permission that a nearer row gives stands first."""
    return [
        Lacking(one, _permission(one.permission), one.permission.role, one.offers)
        for one in sorted(
            found.missing, key=lambda one: min((each.why == "mapping_source" for each in one.offers), default=True)
        )
    ]


def duties(found: Explanation, persons: Mapping[UUID, str]) -> list[tuple[Any, list[tuple[str, list[str]]]]]:
    """Each duty by object with its actions in order, each with the names of those who did it."""
    shown = []
    for duty in found.duties:
        by = {
            action: [_name(act.person, persons) for act in duty.acts if act.action == action] for action in duty.actions
        }
        shown.append((duty, list(by.items())))
    return shown


def _name(person: str, persons: Mapping[UUID, str]) -> str:
    person_id = parse_uuid(person)
    return persons.get(person_id, person) if person_id else person


def stated(found: Explanation) -> list[tuple[str, str]]:
    """What the application said, as (name, text)."""
    plain = {
        name: str(value) if isinstance(value, Amount) else value for name, value in found.request.properties.items()
    }
    return pairs({**plain, **({"context": dict(found.request.context)} if found.request.context else {})})


def persons_of(found: Explanation) -> list[UUID]:
    """Everybody whose name the page needs."""
    ids = {parse_uuid(act.person) for duty in found.duties for act in duty.acts}
    if found.user is not None:
        ids.add(found.user.person_id)
    return [one for one in ids if one is not None]


def groups_of(found: Explanation) -> list[str]:
    """Names of the groups on the ways and in the rows that were missing."""
    named = {step.id for way in found.ways for step in way.steps if step.kind == "group"}
    named |= {offer.row.source for one in found.missing for offer in one.offers if offer.row.source_kind == "group"}
    return sorted(named)
