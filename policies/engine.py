"""The engine: an immutable index over one rule set; a decision costs about a microsecond at any number of rules."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from policies.conditions import Condition, ConditionError
from policies.hierarchy import closure, juniors
from policies.index import Bucket, Group, Rule, ready
from policies.separation import activates, object_block
from policies.types import Activation, Amount, Decision, Grant, ObjectDuty, Permission, Request, RuleSet

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
            "sod_dynamic",
        )
    )
}


class Held(NamedTuple):
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
    held: tuple[Held, ...]
    mask: int
    """Bits of all roles, inherited ones too."""
    own_mask: int
    """Bits of the roles that are granted themselves."""
    free_mask: int
    """Bits of the roles held without scope, limit and validity."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        return tuple(one.grant for one in self.held)


class Engine:
    """Decides by one rule set. `org` is each unit's code with the codes of itself and all units above it."""

    def __init__(self, rules: RuleSet, org: Mapping[str, Sequence[str]] | None = None) -> None:
        self.version = rules.version
        self.rules = rules
        self.org = {code: frozenset(above) for code, above in (org or {}).items()}
        self.below = juniors(rules.inheritance)
        self._bits = _bits(rules)
        self._closures: dict[str, tuple[frozenset[str], int, int]] = {}
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._object_duties: dict[tuple[str, str, str], list[ObjectDuty]] = {}
        self._nothing = Decision.denied("no_permission", rules.version)
        self._not_canonical = Decision.denied("resource_invalid", rules.version)
        with _no_collection():
            for permission in rules.permissions:
                key = (permission.application, permission.resource_type, permission.action)
                bucket = self._buckets.get(key)
                if bucket is None:
                    bucket = self._buckets[key] = Bucket()
                bucket.group(permission.pattern).add(ready(permission, self._bits[permission.role], rules.version))
        for duty in rules.object_duties:
            for action in duty.actions:
                key = (duty.application, duty.resource_type, action)
                self._object_duties.setdefault(key, []).append(duty)
                self._buckets.setdefault(key, Bucket()).separated = True
        self._dynamic_roles = frozenset(role for duty in rules.dynamic_duties for role in duty.roles)
        self._dynamic_mask = sum(self._bits[role] for role in self._dynamic_roles)

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
        held = tuple(Held(grant, *self._closure(grant.role)[1:]) for grant in grants)
        mask = own = free = 0
        for one in held:
            mask |= one.mask
            own |= one.bit
            grant = one.grant
            if grant.limit is None and grant.valid_from is None and grant.valid_until is None and not any(grant.scope):
                free |= one.mask
        # Equal integers are kept once: of a thousand roles they are most of what a subject takes.
        own, free = mask if own == mask else own, mask if free == mask else free
        return PreparedSubject(subject_id, person, state, valid_until, properties or {}, held, mask, own, free)

    def evaluate(self, request: Request) -> Decision:  # noqa: C901  in one piece: each call costs a tenth
        """Decide. Deny overrides permit, nothing is permitted by default, an error never permits."""
        subject = request.subject
        if subject.state != "active":
            return Decision.denied("subject_disabled", self.version)
        if subject.valid_until is not None and request.now >= subject.valid_until:
            return Decision.denied("subject_expired", self.version)
        application, resource_type, resource_id, _ = request.resource
        bucket = self._buckets.get((application, resource_type, request.action[0]))
        if bucket is None:
            return self._nothing
        groups = bucket.find(resource_id)
        if groups is None:
            return self._not_canonical
        mask, own = subject.mask, subject.own_mask
        carried = False
        for group in groups:
            if group.denies and (group.inherited_denies & mask or group.own_denies & own):
                for rule in group.denies:
                    if rule.bit & mask and self._denies(request, rule):
                        return rule.answer
            if group.permits & mask:
                carried = True
        if not carried:
            return self._nothing
        if not bucket.separated and not mask & self._dynamic_mask:
            free_mask = subject.free_mask
            for group in groups:
                free = group.plain & free_mask
                if free:
                    return group.by_role[free & -free][0].answer
        decision = self._permits(request, groups)
        return self._separate(request, decision) if bucket.separated and decision.permit else decision

    def roles_of(self, subject: PreparedSubject, now: datetime) -> set[str]:
        """The roles that the subject holds at `now`, inherited ones too."""
        found: set[str] = set()
        for one in subject.held:
            if is_valid(one.grant.valid_from, one.grant.valid_until, now):
                found |= self._closure(one.grant.role)[0]
        return found

    def juniors_of(self, role: str) -> frozenset[str]:
        """The role and all roles below it."""
        return self._closure(role)[0]

    def permissions_of(self, subject: PreparedSubject, application: str) -> list[Permission]:
        """The permissions of an application that the subject's roles carry, whatever their scope and validity."""
        return [
            permission
            for permission in self.rules.permissions
            if permission.application == application and self._bits[permission.role] & subject.mask
        ]

    def actions_on(self, application: str, resource_type: str) -> list[str]:
        """The actions on this type that any rule names, sorted."""
        return sorted(
            action
            for (app, kind, action), bucket in self._buckets.items()
            if (app, kind) == (application, resource_type) and (bucket.exact or bucket.trie is not None)
        )

    def carriers(self, application: str, resource_type: str, action: str, resource_id: str) -> int:
        """Bits of the roles that carry a permit for this action on this resource; `PreparedSubject.mask` meets them."""
        bucket = self._buckets.get((application, resource_type, action))
        mask = 0
        for group in (bucket.find(resource_id) if bucket is not None else None) or ():
            mask |= group.permits
        return mask

    def groups(self, request: Request) -> Sequence[Group]:
        """The rules that concern the action on this resource, whoever holds them; none for an id not canonical."""
        resource = request.resource
        bucket = self._buckets.get((resource.application, resource.type, request.action.name))
        return (bucket.find(resource.id) if bucket is not None else None) or ()

    def object_duties(self, application: str, resource_type: str, action: str) -> Sequence[ObjectDuty]:
        """The object rules that name this action."""
        return self._object_duties.get((application, resource_type, action), ())

    def names_object_duty(self, application: str, resource_type: str, action: str) -> bool:
        """Whether an object rule names this action."""
        return (application, resource_type, action) in self._object_duties

    def in_dynamic_duty(self, subject: PreparedSubject) -> bool:
        """Whether the subject holds a role of a dynamic set."""
        return bool(subject.mask & self._dynamic_mask)

    def _closure(self, role: str) -> tuple[frozenset[str], int, int]:
        """The role with all below it, its own bit, and the bits of all of them."""
        known = self._closures.get(role)
        if known is None:
            names = frozenset(closure(role, self.below))
            bits = self._bits
            known = self._closures[role] = names, bits.get(role, 0), sum(bits.get(name, 0) for name in names)
        return known

    def _permits(self, request: Request, groups: Sequence[Group]) -> Decision:
        """The answer of the first rule that permits, or the refusal that came nearest to a permit."""
        best, mask = "no_permission", request.subject.mask
        for group in groups:
            carried = group.permits & mask
            while carried:
                bit = carried & -carried
                carried ^= bit
                for rule in group.by_role[bit]:
                    found = self._permit(request, rule)
                    if isinstance(found, Decision):
                        return found
                    if _RANK[found] > _RANK[best]:
                        best = found
        return Decision.denied(best, self.version)

    def _permit(self, request: Request, rule: Rule) -> Decision | str:
        """The rule's answer when one tuple satisfies everything; else the reason of the one that came furthest."""
        permission = rule.permission
        if rule.timed and not is_valid(permission.valid_from, permission.valid_until, request.now):
            return "expired"
        best, bit = "no_permission", rule.bit
        holds = rule.condition is None
        for one in request.subject.held:
            grant, _, reached = one
            if not reached & bit:
                continue
            code = _check(grant, request, self.org)
            if not code and not holds:
                holds = self.condition_holds(request, rule.condition, on_error=False)
                code = "" if holds else "condition"
            if not code:
                activated = self.activated(request, one, rule)
                if not isinstance(activated, str):
                    return rule.answer._replace(activates=activated) if activated else rule.answer
                code = "sod_dynamic"
            if _RANK[code] > _RANK[best]:
                best = code
        return best

    def activated(self, request: Request, held: Held, rule: Rule) -> tuple[Activation, ...] | str:
        """The roles of dynamic sets that this tuple uses for this rule, or the set that forbids it."""
        if not held.mask & self._dynamic_mask:
            return ()
        used = self._closure(held.grant.role)[0] & self._dynamic_roles
        reaching = frozenset(role for role in used if rule.permission.role in self._closure(role)[0])
        return activates(self.rules.dynamic_duties, reaching, request.activations)

    def _denies(self, request: Request, rule: Rule) -> bool:
        """A deny holds when its role's tuple is valid here; what is not stated or cannot be evaluated denies."""
        permission = rule.permission
        if rule.timed and not is_valid(permission.valid_from, permission.valid_until, request.now):
            return False
        for grant, own, reached in request.subject.held:
            if (
                (reached if permission.inherited else own) & rule.bit
                and is_valid(grant.valid_from, grant.valid_until, request.now)
                and check_scope(grant, request.resource.properties, self.org) != "scope"
            ):
                return rule.condition is None or self.condition_holds(request, rule.condition, on_error=True)
        return False

    def condition_holds(self, request: Request, condition: Condition | None, *, on_error: bool) -> bool:
        """Whether the condition is met; without one it is."""
        subject, resource, action = request.subject, request.resource, request.action
        values = {
            "subject": {"id": subject.id, "properties": subject.properties},
            "resource": {"type": resource.type, "id": resource.id, "properties": resource.properties},
            "action": {"name": action.name, "properties": action.properties},
            "context": request.context,
        }
        try:
            return condition is None or condition.holds(values)
        except ConditionError:
            return on_error

    def _separate(self, request: Request, decision: Decision) -> Decision:
        key = (request.resource.application, request.resource.type, request.action.name)
        blocked = object_block(self._object_duties[key], request)
        return Decision.denied(blocked[0], self.version, (blocked[1],)) if blocked else decision


@contextmanager
def _no_collection() -> Iterator[None]:
    """Looking for garbage among a million new objects that all stay would double the time that it takes to load."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _bits(rules: RuleSet) -> dict[str, int]:
    """A bit for every role that a rule names; a role that none names carries nothing."""
    names = dict.fromkeys(permission.role for permission in rules.permissions)
    names.update(dict.fromkeys(role for duty in rules.dynamic_duties for role in duty.roles))
    return {role: 1 << number for number, role in enumerate(names)}


def is_valid(since: datetime | None, until: datetime | None, now: datetime) -> bool:
    """Whether `now` lies in a validity; its end is exclusive."""
    return (since is None or now >= since) and (until is None or now < until)


def _check(grant: Grant, request: Request, org: Mapping[str, frozenset[str]]) -> str:
    """Empty when this tuple satisfies scope, limit and validity; else what it does not satisfy."""
    if not is_valid(grant.valid_from, grant.valid_until, request.now):
        return "expired"
    code = check_scope(grant, request.resource.properties, org)
    return code or check_limit(grant, request)


def check_limit(grant: Grant, request: Request) -> str:
    """Empty within the tuple's limit, else the reason why not."""
    if grant.limit is None:
        return ""
    amount = request.resource.properties.get("amount")
    if not isinstance(amount, Amount):
        return "limit_missing"
    if amount.currency != grant.limit.currency:
        return "currency"
    return "" if 0 <= amount.value <= grant.limit.value else "limit"


def check_scope(grant: Grant, properties: Mapping[str, Any], org: Mapping[str, frozenset[str]]) -> str:
    """Empty inside the tuple's scope, "scope" outside, "scope_missing" when the request does not state enough.

    What is stated in another form than a text is not stated, nor is a unit that we do not know.
    """
    missing = ""
    company, org_unit, business_type = grant.scope
    if company is not None:
        stated = properties.get("company")
        if not isinstance(stated, str) or not stated:
            missing = "scope_missing"
        elif stated != company:
            return "scope"
    if business_type is not None:
        stated = properties.get("business_type")
        if not isinstance(stated, str) or not stated:
            missing = "scope_missing"
        elif stated != business_type:
            return "scope"
    if org_unit is not None:
        stated = properties.get("org_unit")
        above = org.get(stated) if isinstance(stated, str) else None
        if above is None:
            missing = missing if stated == org_unit else "scope_missing"
        elif org_unit not in above:
            return "scope"
    return missing
