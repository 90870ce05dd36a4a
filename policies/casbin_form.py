"""A rule set as a Casbin model and policy: an independent oracle for tests, and the export for apps that embed Casbin.

The export is never looser than the original: what Casbin cannot express is left out if it permits, and said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import casbin
from casbin.rbac.default_role_manager import RoleManager

from policies.hierarchy import closure, juniors
from policies.patterns import is_pattern
from policies.types import Grant, Permission, RuleSet

# Casbin's own limit of ten levels silently loses deeper roles, and with them their denies.
DEPTH = 10_000


@dataclass(frozen=True, slots=True)
class CasbinForm:
    """`policy` is p and g lines; `left_out` the ids of permissions that must be asked at the decision point."""

    model: str
    policy: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]


def model_text() -> str:
    """The Casbin model."""
    return resources.files("policies").joinpath("model.conf").read_text(encoding="utf-8")


def casbin_form(rules: RuleSet, subjects: Iterable[tuple[str, Iterable[Grant]]]) -> CasbinForm:
    """The rules and the subjects' unrestricted grants in Casbin's form.

    A deny that is not inherited is expanded to the subjects that hold its role directly. A restricted grant is left
    out, since Casbin would forget its restriction; a deny that cannot be expressed takes with it every permit of its
    application, type and action. So does a duty by object; a duty by session takes every permit that is reached
    through one of its roles. The subjects are those who may act: Casbin knows no state of a person.
    """
    below = juniors(rules.inheritance)
    expressible = [one for one in rules.permissions if _expressible(one)]
    lost = {_key(one) for one in rules.permissions if not _expressible(one) and one.effect == "deny"}
    lost |= {(duty.application, duty.resource_type, action) for duty in rules.object_duties for action in duty.actions}
    separated = {one for duty in rules.dynamic_duties for role in duty.roles for one in closure(role, below)}
    kept = [one for one in expressible if one.effect == "deny" or (_key(one) not in lost and one.role not in separated)]
    lines: list[tuple[str, ...]] = [("g", senior, junior) for senior, junior in rules.inheritance]
    direct: dict[str, list[str]] = {}
    for subject, grants in subjects:
        for grant in grants:
            direct.setdefault(grant.role, []).append(subject)
            if not _restricted(grant):
                lines.append(("g", subject, grant.role))
    for one in kept:
        holders = [one.role]
        if one.effect == "deny":
            reaching = [
                role for role in direct if one.role == role or (one.inherited and one.role in closure(role, below))
            ]
            holders = sorted({subject for role in reaching for subject in direct[role]})
        effect = "allow" if one.effect == "permit" else "deny"
        lines += [("p", who, one.application, one.resource_type, one.pattern, one.action, effect) for who in holders]
    left_out = tuple(one.id for one in rules.permissions if one not in kept)
    return CasbinForm(model_text(), tuple(lines), left_out)


def enforcer(form: CasbinForm) -> casbin.Enforcer:
    """A Casbin enforcer of this form, without Casbin's limit on the depth of roles."""
    model = casbin.Model()
    model.load_model_from_text(form.model)
    made = casbin.Enforcer(model)
    made.set_role_manager(RoleManager(DEPTH))
    for kind, *rest in form.policy:
        (made.add_grouping_policy if kind == "g" else made.add_policy)(*rest)
    made.build_role_links()
    return made


def _key(one: Permission) -> tuple[str, str, str]:
    return one.application, one.resource_type, one.action


def _expressible(one: Permission) -> bool:
    plain = one.condition is None and one.valid_from is None and one.valid_until is None and not one.obligations
    return plain and (one.pattern == "**" or not is_pattern(one.pattern))


def _restricted(grant: Grant) -> bool:
    return any(grant.scope) or grant.limit is not None or grant.valid_from is not None or grant.valid_until is not None
