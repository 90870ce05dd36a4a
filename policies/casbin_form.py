"""A rule set as a Casbin model and policy: an independent oracle for tests, and the export for apps that embed Casbin.

The export is never looser than the original: what Casbin cannot express is left out if it permits, and said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import casbin
from casbin.rbac.default_role_manager import RoleManager

from policies.export import CONDITION, DUTY, OBLIGATION, is_restricted
from policies.hierarchy import closure, juniors
from policies.patterns import is_pattern
from policies.types import Grant, Permission, RuleSet

# Casbin's own limit of ten levels silently loses deeper roles, and with them their denies.
DEPTH = 10_000


# Who is named in g2, and so a subject.
SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class CasbinForm:
    """`policy` is p, g and g2 lines; `left_out` the ids of permissions that must be asked at the decision point.

    A no for an action in `ask` ((application, type, action) → why), or for somebody in `ask_subjects`, is not the last
    word: ask the decision point.
    """

    model: str
    policy: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    ask: dict[tuple[str, str, str], tuple[str, ...]]
    ask_subjects: tuple[str, ...]


def model_text() -> str:
    """The Casbin model."""
    return resources.files("policies").joinpath("model.conf").read_text(encoding="utf-8")


def casbin_form(rules: RuleSet, subjects: Iterable[tuple[str, Iterable[Grant]]]) -> CasbinForm:
    """The rules and the subjects' unrestricted grants in Casbin's form.

    A deny that is not inherited is expanded to the subjects that hold its role directly. A restricted grant is left
    out, since Casbin would forget its restriction; a deny that cannot be expressed takes with it every permit of its
    application, type and action. So do an obligation and a duty by object; a duty by session takes every permit that
    is reached through one of its roles. The subjects are those who may act: Casbin knows no state of a person, and it
    takes somebody called like a role for the role, so such a one is left out.
    """
    below = juniors(rules.inheritance)
    left = _left_out(rules, below)
    kept = [one for one in rules.permissions if one.id not in left]
    people = [(subject, tuple(grants)) for subject, grants in subjects]
    roles = {one.role for one in rules.permissions} | {role for edge in rules.inheritance for role in edge}
    roles |= {grant.role for _, grants in people for grant in grants}
    lines: list[tuple[str, ...]] = [("g", senior, junior) for senior, junior in rules.inheritance]
    direct: dict[str, list[str]] = {}
    unsaid: dict[str, None] = {}
    for subject, grants in people:
        named = subject not in roles and subject != SUBJECT
        lines += [("g2", subject, SUBJECT)] if named else []
        for grant in grants:
            if named:
                direct.setdefault(grant.role, []).append(subject)
            if named and not is_restricted(grant):
                lines.append(("g", subject, grant.role))
            else:
                unsaid[subject] = None
    for one in kept:
        holders = [one.role]
        if one.effect == "deny":
            reaching = [
                role for role in direct if one.role == role or (one.inherited and one.role in closure(role, below))
            ]
            holders = sorted({subject for role in reaching for subject in direct[role]})
        effect = "allow" if one.effect == "permit" else "deny"
        lines += [("p", who, one.application, one.resource_type, one.pattern, one.action, effect) for who in holders]
    ask: dict[tuple[str, str, str], set[str]] = {}
    for one in rules.permissions:
        if one.id in left:
            ask.setdefault(_key(one), set()).update(left[one.id])
    return CasbinForm(
        model_text(), tuple(lines), tuple(left), {key: tuple(sorted(why)) for key, why in ask.items()}, tuple(unsaid)
    )


def enforcer(form: CasbinForm) -> casbin.Enforcer:
    """A Casbin enforcer of this form, without Casbin's limit on the depth of roles."""
    model = casbin.Model()
    model.load_model_from_text(form.model)
    made = casbin.Enforcer(model)
    made.set_role_manager(RoleManager(DEPTH))
    for kind, *rest in form.policy:
        if kind == "p":
            made.add_policy(*rest)
        else:
            made.add_named_grouping_policy(kind, *rest)
    made.build_role_links()
    return made


def _left_out(rules: RuleSet, below: dict[str, set[str]]) -> dict[str, set[str]]:
    """The ids of the permissions that are left out, each with why."""
    separated = {one for duty in rules.dynamic_duties for role in duty.roles for one in closure(role, below)}
    lost: dict[tuple[str, str, str], set[str]] = {}
    for duty in rules.object_duties:
        for action in duty.actions:
            lost.setdefault((duty.application, duty.resource_type, action), set()).add(DUTY)
    for one in rules.permissions:
        if one.effect == "deny" and _inexpressible(one):
            lost.setdefault(_key(one), set()).add("deny")
        elif one.effect == "permit" and one.obligations:
            lost.setdefault(_key(one), set()).add(OBLIGATION)
    found = {}
    for one in rules.permissions:
        why = _inexpressible(one)
        if one.effect == "permit":
            why |= lost.get(_key(one), set())
            why |= {DUTY} if one.role in separated else set()
        if why:
            found[one.id] = why
    return found


def _key(one: Permission) -> tuple[str, str, str]:
    return one.application, one.resource_type, one.action


def _inexpressible(one: Permission) -> set[str]:
    """What of a permission Casbin cannot say."""
    said = {
        CONDITION: one.condition is not None,
        "validity": one.valid_from is not None or one.valid_until is not None,
        "pattern": one.pattern != "**" and is_pattern(one.pattern),
    }
    return {name for name, present in said.items() if present}
