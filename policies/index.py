"""The index of an engine: from (application, type, action) and a resource id to the rules that match, by role.

Roles are bits and a subject's roles one integer, so "does any of these rules concern this subject" is one AND,
however many rules share a pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """All rules of one application, type, action and pattern; the integers are bits of roles.

    Most groups have one permit, so `many` is made with the second role; a small integer is a cheaper key than a bit of
    a thousand roles.
    """

    # What every decision reads stands first and so together.
    permits: int = 0
    denies: tuple[Rule, ...] = ()
    plain: int = 0
    """Roles with a permit here that has no condition and no validity."""
    one: tuple[Rule, ...] = ()
    """The permits of the first role; the first is a plain one if there is any."""
    many: dict[int, tuple[Rule, ...]] | None = None
    """The length of a role's bit → its permits likewise, where more than one role has any."""
    inherited_denies: int = 0
    own_denies: int = 0
    """Roles with a deny here that concerns only those who hold the role itself."""
    timed: int = 0
    """Roles with a permit here that has a validity."""

    def rules(self, bit: int) -> tuple[Rule, ...]:
        """The permits of a role that has any here."""
        return self.one if self.many is None else self.many[bit.bit_length()]

    def permitting(self) -> Iterator[Rule]:
        """Every permit, by its role's number."""
        for rules in (self.one,) if self.many is None else (self.many[number] for number in sorted(self.many)):
            yield from rules

    def add(self, rule: Rule) -> None:
        bit, permission = rule.bit, rule.permission
        if permission.effect == "deny":
            self.denies = (*self.denies, rule)
            if permission.inherited:
                self.inherited_denies = self.inherited_denies | bit if self.inherited_denies else bit
            else:
                self.own_denies = self.own_denies | bit if self.own_denies else bit
            return
        known = self.rules(bit) if self.permits & bit else ()
        if rule.condition is None and not rule.timed and not self.plain & bit:
            rules = (rule, *known)
            self.plain = self.plain | bit if self.plain else bit
        else:
            rules = (*known, rule)
        if rule.timed:
            self.timed |= bit
        if self.permits and self.permits != bit and self.many is None:
            self.many = {self.permits.bit_length(): self.one}
        if self.many is None:
            self.one = rules
        else:
            self.many[bit.bit_length()] = rules
        # The role's own integer where it is alone: of a hundred thousand groups most have one role, and a thousand
        # shared integers stay in the processor's cache.
        self.permits = self.permits | bit if self.permits else bit


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
