"""The engine: an immutable index over one rule set; a decision costs about a microsecond at any number of rules.

`(application, type, action)` leads to a bucket; a bucket holds exact ids and a trie of patterns. Roles are bits, a
subject's roles one integer, so "does anybody of these carry this rule" is one AND.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from policies.conditions import Condition, ConditionError, compile_condition
from policies.hierarchy import closure, juniors
from policies.patterns import Trie, is_canonical, is_pattern
from policies.separation import dynamic_block, object_block
from policies.types import (
    Amount,
    Decision,
    DynamicDuty,
    Grant,
    ObjectDuty,
    Permission,
    Request,
    RuleSet,
)

# The reason of a refusal is that of the tuple that came furthest.
_RANK = {
    code: rank
    for rank, code in enumerate(
        (
            "no_permission",
            "expired",
            "scope",
            "scope_missing",
            "currency",
            "limit_missing",
            "limit",
            "condition",
        )
    )
}


@dataclass(slots=True)
class _Held:
    """A grant with its bits: `bit` its own role's, `mask` also those of the roles below it."""

    grant: Grant
    bit: int
    mask: int


@dataclass(frozen=True, slots=True)
class PreparedSubject:
    """A subject made ready by one engine; decide with it on that engine only."""

    id: str
    person: str
    state: str
    valid_until: datetime | None
    properties: Mapping[str, Any]
    held: tuple[_Held, ...]
    mask: int
    """Bits of all roles, inherited ones too."""
    free_mask: int
    """Bits of the roles held without scope, limit and validity."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        return tuple(one.grant for one in self.held)


@dataclass(slots=True)
class _Rule:
    permission: Permission
    bit: int
    condition: Condition | None
    timed: bool
    permit: Decision


@dataclass(slots=True)
class _Group:
    """All rules of one exact id. `plain` = only unconditional permits of any time."""

    rules: list[_Rule] = field(default_factory=list)
    plain: bool = True
    mask: int = 0
    by_bit: dict[int, Decision] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    exact: dict[str, _Group] = field(default_factory=dict)
    trie: Trie | None = None
    patterns: list[_Rule] = field(default_factory=list)


class Engine:
    """Decides by one rule set. `org` is each unit's code with the codes of itself and all units above it."""

    def __init__(self, rules: RuleSet, org: Mapping[str, Sequence[str]] | None = None) -> None:
        self.version = rules.version
        self.rules = rules
        self._org = {code: frozenset(above) for code, above in (org or {}).items()}
        self._below = juniors(rules.inheritance)
        self._bits: dict[str, int] = {}
        self._masks: dict[str, int] = {}
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}
        self._object_duties: dict[tuple[str, str, str], list[ObjectDuty]] = {}
        self._dynamic_duties: tuple[DynamicDuty, ...] = rules.dynamic_duties
        self._nothing = Decision.denied("no_permission", rules.version)
        for permission in rules.permissions:
            self._add(permission)
        for bucket in self._buckets.values():
            for group in bucket.exact.values():
                _finish(group)
        for duty in rules.object_duties:
            for action in duty.actions:
                self._object_duties.setdefault((duty.application, duty.resource_type, action), []).append(duty)
        self._dynamic_mask = 0
        for dynamic in rules.dynamic_duties:
            for role in dynamic.roles:
                self._dynamic_mask |= self._bit(role)

    def subject(
        self,
        subject_id: str,
        person: str,
        state: str = "active",
        grants: Iterable[Grant] = (),
        properties: Mapping[str, Any] | None = None,
        valid_until: datetime | None = None,
    ) -> PreparedSubject:
        """Make a subject ready: role bits through the hierarchy, once."""
        held = tuple(_Held(grant, self._bit(grant.role), self._mask(grant.role)) for grant in grants)
        mask = free = 0
        for one in held:
            mask |= one.mask
            grant = one.grant
            if grant.limit is None and grant.valid_from is None and grant.valid_until is None and not any(grant.scope):
                free |= one.mask
        return PreparedSubject(subject_id, person, state, valid_until, properties or {}, held, mask, free)

    def evaluate(self, request: Request) -> Decision:
        """Decide. Deny overrides permit, nothing is permitted by default, an error never permits."""
        subject = request.subject
        if subject.state != "active":
            return Decision.denied("subject_disabled", self.version)
        until = subject.valid_until
        if until is not None and request.now >= until:
            return Decision.denied("subject_expired", self.version)
        application, resource_type, resource_id, _ = request.resource
        key = (application, resource_type, request.action[0])
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._nothing
        group = bucket.exact.get(resource_id)
        if group is not None and group.plain and bucket.trie is None:
            carried = group.mask & subject.free_mask
            if carried and not self._object_duties and not self._dynamic_mask:
                return group.by_bit[carried & -carried]
        elif group is None and bucket.trie is None:
            return self._nothing if is_canonical(resource_id) else Decision.denied("resource_invalid", self.version)
        rules = list(group.rules) if group is not None else []
        if bucket.trie is not None:
            if not is_canonical(resource_id):
                return Decision.denied("resource_invalid", self.version)
            rules.extend(bucket.patterns[number] for number in bucket.trie.find(resource_id))
        decision = self._weigh(request, rules)
        return self._separate(request, key, decision) if decision.permit else decision

    def roles_of(self, subject: PreparedSubject, now: datetime) -> set[str]:
        """The roles that the subject holds at `now`, inherited ones too."""
        found: set[str] = set()
        for one in subject.held:
            if _valid(one.grant.valid_from, one.grant.valid_until, now) and one.grant.role not in found:
                found |= closure(one.grant.role, self._below)
        return found

    def permissions_of(self, subject: PreparedSubject, application: str) -> list[Permission]:
        """The permissions of an application that the subject's roles carry, whatever their scope and validity."""
        return [
            permission
            for permission in self.rules.permissions
            if permission.application == application and self._bit(permission.role) & subject.mask
        ]

    def actions_on(self, application: str, resource_type: str) -> list[str]:
        """The actions on this type that any rule names, sorted."""
        return sorted(action for app, kind, action in self._buckets if (app, kind) == (application, resource_type))

    def carriers(self, application: str, resource_type: str, action: str) -> int:
        """Bits of the roles that carry a permit for this action on any resource; `PreparedSubject.mask` meets them."""
        bucket = self._buckets.get((application, resource_type, action))
        if bucket is None:
            return 0
        mask = 0
        for rule in (*bucket.patterns, *(rule for group in bucket.exact.values() for rule in group.rules)):
            if rule.permission.effect == "permit":
                mask |= rule.bit
        return mask

    def names_object_duty(self, application: str, resource_type: str, action: str) -> bool:
        """Whether an object rule names this action."""
        return (application, resource_type, action) in self._object_duties

    def in_dynamic_duty(self, subject: PreparedSubject) -> bool:
        """Whether the subject holds a role of a dynamic set."""
        return bool(subject.mask & self._dynamic_mask)

    def activated(self, subject: PreparedSubject, rules: Iterable[str]) -> list[tuple[str, str]]:
        """(rule, role) pairs of dynamic sets that performing by these permissions activates."""
        roles = {permission.role for permission in self.rules.permissions if permission.id in set(rules)}
        return [
            (duty.id, role)
            for duty in self._dynamic_duties
            for role in duty.roles
            if self._bit(role) & subject.mask and any(one in closure(role, self._below) for one in roles)
        ]

    def _add(self, permission: Permission) -> None:
        key = (permission.application, permission.resource_type, permission.action)
        bucket = self._buckets.setdefault(key, _Bucket())
        rule = _Rule(
            permission,
            self._bit(permission.role),
            compile_condition(permission.condition) if permission.condition else None,
            permission.valid_from is not None or permission.valid_until is not None,
            Decision(
                True,
                "permitted",
                (permission.id,),
                permission.obligations,
                self.version,
            ),
        )
        if is_pattern(permission.pattern):
            bucket.trie = bucket.trie or Trie()
            bucket.trie.add(permission.pattern, len(bucket.patterns))
            bucket.patterns.append(rule)
        else:
            bucket.exact.setdefault(permission.pattern, _Group()).rules.append(rule)

    def _bit(self, role: str) -> int:
        bit = self._bits.get(role)
        if bit is None:
            bit = self._bits[role] = 1 << len(self._bits)
        return bit

    def _mask(self, role: str) -> int:
        mask = self._masks.get(role)
        if mask is None:
            mask = 0
            for one in closure(role, self._below):
                mask |= self._bit(one)
            self._masks[role] = mask
        return mask

    def _weigh(self, request: Request, rules: list[_Rule]) -> Decision:
        for rule in rules:
            if rule.permission.effect == "deny" and self._denies(request, rule):
                return Decision.denied("denied", self.version, (rule.permission.id,))
        best = "no_permission"
        subject, now = request.subject, request.now
        for rule in rules:
            if rule.permission.effect != "permit" or not rule.bit & subject.mask:
                continue
            if rule.timed and not _valid(rule.permission.valid_from, rule.permission.valid_until, now):
                code = "expired"
            else:
                code = "" if rule.bit & subject.free_mask else self._best_tuple(request, rule)
                if not code and (rule.condition is None or self._condition(request, rule.condition)):
                    return rule.permit
                code = code or "condition"
            if _RANK[code] > _RANK[best]:
                best = code
        return Decision.denied(best, self.version)

    def _best_tuple(self, request: Request, rule: _Rule) -> str:
        """Empty when one tuple satisfies scope, limit and validity; else how far the best one came."""
        best = "no_permission"
        for one in request.subject.held:
            if one.mask & rule.bit:
                code = self._check(one.grant, request)
                if not code:
                    return ""
                if _RANK[code] > _RANK[best]:
                    best = code
        return best

    def _check(self, grant: Grant, request: Request) -> str:
        if not _valid(grant.valid_from, grant.valid_until, request.now):
            return "expired"
        code = self._check_scope(grant, request.resource.properties)
        if code or grant.limit is None:
            return code
        amount = request.resource.properties.get("amount")
        if not isinstance(amount, Amount):
            return "limit_missing"
        if amount.currency != grant.limit.currency:
            return "currency"
        return "" if 0 <= amount.value <= grant.limit.value else "limit"

    def _check_scope(self, grant: Grant, properties: Mapping[str, Any]) -> str:
        company, org_unit, business_type = grant.scope
        missing = False
        for wanted, name in ((company, "company"), (business_type, "business_type")):
            if wanted is not None:
                stated = properties.get(name)
                if stated is None:
                    missing = True
                elif stated != wanted:
                    return "scope"
        if org_unit is not None:
            stated = properties.get("org_unit")
            if stated is None:
                missing = True
            elif not isinstance(stated, str) or org_unit not in self._org.get(stated, (stated,)):
                return "scope"
        return "scope_missing" if missing else ""

    def _denies(self, request: Request, rule: _Rule) -> bool:
        """A deny holds when its role's tuple is valid here; what is not stated or cannot be evaluated denies."""
        permission = rule.permission
        if rule.timed and not _valid(permission.valid_from, permission.valid_until, request.now):
            return False
        for one in request.subject.held:
            carries = one.mask if permission.inherited else one.bit
            if (
                carries & rule.bit
                and _valid(one.grant.valid_from, one.grant.valid_until, request.now)
                and self._check_scope(one.grant, request.resource.properties) != "scope"
            ):
                return rule.condition is None or self._condition(request, rule.condition, on_error=True)
        return False

    def _condition(self, request: Request, condition: Condition, *, on_error: bool = False) -> bool:
        subject, resource = request.subject, request.resource
        values = {
            "subject": {"id": subject.id, "properties": subject.properties},
            "resource": {
                "type": resource.type,
                "id": resource.id,
                "properties": resource.properties,
            },
            "action": {
                "name": request.action.name,
                "properties": request.action.properties,
            },
            "context": request.context,
        }
        try:
            return condition.holds(values)
        except ConditionError:
            return on_error

    def _separate(self, request: Request, key: tuple[str, str, str], decision: Decision) -> Decision:
        duties = self._object_duties.get(key)
        if duties:
            blocked = object_block(duties, request)
            if blocked:
                return Decision.denied(blocked[0], self.version, (blocked[1],))
        if request.subject.mask & self._dynamic_mask:
            wanted = self.activated(request.subject, decision.rules)
            rule = dynamic_block(self._dynamic_duties, wanted, request.activations)
            if rule:
                return Decision.denied("sod_dynamic", self.version, (rule,))
        return decision


def _finish(group: _Group) -> None:
    for rule in group.rules:
        group.plain &= rule.permission.effect == "permit" and rule.condition is None and not rule.timed
        group.mask |= rule.bit
        group.by_bit.setdefault(rule.bit, rule.permit)


def _valid(since: datetime | None, until: datetime | None, now: datetime) -> bool:
    return (since is None or now >= since) and (until is None or now < until)
