"""The index of an engine: from (application, type, action) and a resource id to the rules that match, by role.

Roles are bits and a subject's roles one integer, so "does any of these rules concern this subject" is one AND,
however many rules share a pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.conditions import Condition, compile_condition
from policies.patterns import Trie, is_canonical, is_pattern
from policies.types import Decision, Permission


class Rule(NamedTuple):
    """A permission made ready: its role's bit, its compiled condition, and the answer that it gives."""

    permission: Permission
    bit: int
    condition: Condition | None
    timed: bool
    answer: Decision


@dataclass(slots=True)
class Group:
    """All rules of one application, type, action and pattern; the integers are bits of roles."""

    permits: int = 0
    plain: int = 0
    """Roles with a permit here that has no condition and no validity."""
    inherited_denies: int = 0
    own_denies: int = 0
    """Roles with a deny here that concerns only those who hold the role itself."""
    by_role: dict[int, tuple[Rule, ...]] = field(default_factory=dict)
    """Role → its permits; the first is a plain one if there is any."""
    denies: tuple[Rule, ...] = ()

    def add(self, rule: Rule) -> None:
        bit, permission = rule.bit, rule.permission
        if permission.effect == "deny":
            self.denies = (*self.denies, rule)
            if permission.inherited:
                self.inherited_denies |= bit
            else:
                self.own_denies |= bit
            return
        known = self.by_role.get(bit, ())
        if rule.condition is None and not rule.timed and not self.plain & bit:
            self.plain |= bit
            self.by_role[bit] = (rule, *known)
        else:
            self.by_role[bit] = (*known, rule)
        self.permits |= bit


@dataclass(slots=True)
class Bucket:
    """The groups of one application, type and action. `separated` = a duty by object names it."""

    exact: dict[str, Group] = field(default_factory=dict)
    trie: Trie[Group] | None = None
    separated: bool = False

    def find(self, resource_id: str) -> Sequence[Group] | None:
        """The groups that match the id, or None when it is not canonical."""
        exact = self.exact.get(resource_id)
        if exact is None and not is_canonical(resource_id):
            return None
        if self.trie is None:
            return () if exact is None else (exact,)
        found = self.trie.find(resource_id)
        if exact is not None:
            found.append(exact)
        return found

    def group(self, pattern: str) -> Group:
        """The group of this pattern, made when it is new."""
        if not is_pattern(pattern):
            known = self.exact.get(pattern)
            if known is None:
                known = self.exact[pattern] = Group()
            return known
        self.trie = self.trie or Trie()
        node, rest = self.trie.node(pattern)
        group = (node.rest if rest else node.here) or Group()
        if rest:
            node.rest = group
        else:
            node.here = group
        return group


def ready(permission: Permission, bit: int, version: int) -> Rule:
    """The rule of a permission; raises `ConditionError`."""
    permits = permission.effect == "permit"
    return Rule(
        permission,
        bit,
        compile_condition(permission.condition) if permission.condition is not None else None,
        permission.valid_from is not None or permission.valid_until is not None,
        Decision(
            permits,
            "permitted" if permits else "denied",
            (permission.id,),
            permission.obligations if permits else (),
            version,
        ),
    )
