"""A rule set as Apache Shiro's roles and wildcard permissions (`type:action:id`), for apps that embed Shiro.

Shiro knows neither a deny nor patterns of ids nor a hierarchy: what it cannot express is left out, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from policies.export import ExportSubject, Key, ask, carriers, is_restricted, permissions_of
from policies.hierarchy import closure, juniors
from policies.types import Permission, RuleSet

# Shiro splits at colons and commas and trims; and an id that two systems read differently is nobody's. Whoever asks
# about an id that is not of this form asks the decision point.
ID_FORM = "^[0-9A-Za-z_@~+=-]+(/[0-9A-Za-z_@~+=-]+)*$"
_ID = re.compile(ID_FORM[:-1] + r"\Z")
_NAME = re.compile(r"[^\s:,*]+(?: [^\s:,*]+)*")
ID_MAX = 1_024


@dataclass(frozen=True, slots=True)
class ShiroForm:
    """`roles` is role → wildcard permissions, those of the roles below it among them; `users` subject → roles.

    A no for an action in `ask`, or for somebody in `ask_subjects`, is not the last word: ask the decision point.
    Shiro must compare with `caseSensitive` (its default takes `A` for `a`).
    """

    roles: dict[str, tuple[str, ...]]
    users: dict[str, tuple[str, ...]]
    ask: dict[Key, tuple[str, ...]]
    ask_subjects: tuple[str, ...]


def shiro_form(rules: RuleSet, application: str, subjects: Iterable[ExportSubject]) -> ShiroForm:
    """The application's permits in Shiro's form, as far as they hold there and nowhere else."""
    people = list(subjects)
    own = permissions_of(rules, application)
    left = {key: set(why) for key, why in ask(rules, application, (g for one in people for g in one.grants)).items()}
    for one in own:
        if why := _inexpressible(one):
            left.setdefault((one.resource_type, one.action), set()).add(why)
    strings: dict[str, set[str]] = {}
    lost = set(left)
    for one in own:
        key = (one.resource_type, one.action)
        if key not in lost:
            if one.pattern == "**" or shiro_id(one.pattern):
                instance = "*" if one.pattern == "**" else one.pattern
                strings.setdefault(one.role, set()).add(f"{one.resource_type}:{one.action}:{instance}")
            else:
                left.setdefault(key, set()).add("pattern")
    below = juniors(rules.inheritance)
    carrying = carriers(rules, (one for one in own if one.effect == "permit"))
    roles: dict[str, tuple[str, ...]] = {}
    users, unsaid = {}, []
    for somebody in people:
        held = [grant for grant in somebody.grants if grant.role in carrying]
        if somebody.valid_until is not None or any(is_restricted(grant) for grant in held):
            unsaid.append(somebody.id)
        free = dict.fromkeys(grant.role for grant in held if not is_restricted(grant))
        for role in free.keys() - roles.keys():
            roles[role] = tuple(sorted({text for one in closure(role, below) for text in strings.get(one, ())}))
        named = tuple(role for role in free if roles[role])
        if named and somebody.valid_until is None:
            users[somebody.id] = named
    used = {role for named in users.values() for role in named}
    return ShiroForm(
        {role: roles[role] for role in sorted(used)},
        users,
        {key: tuple(sorted(why)) for key, why in sorted(left.items())},
        tuple(unsaid),
    )


def _inexpressible(one: Permission) -> str:
    """What of a permission makes Shiro unable to tell its action at all; empty for nothing."""
    if one.effect == "deny":
        return "deny"
    if one.condition is not None:
        return "condition"
    if one.valid_from is not None or one.valid_until is not None:
        return "validity"
    return "" if _NAME.fullmatch(one.resource_type) and _NAME.fullmatch(one.action) else "name"


def shiro_id(resource_id: str) -> bool:
    """Whether a resource id may be asked about in Shiro's form."""
    return len(resource_id) <= ID_MAX and _ID.match(resource_id) is not None
