"""The engine: an immutable index over one rule set; a decision costs about a microsecond at any number of rules."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.conditions import Condition, ConditionError
from policies.held import RANK, Held, check, check_scope, is_valid, nearer, refused_by
from policies.hierarchy import closure, juniors
from policies.index import Bucket, Group, Rule, ready
from policies.separation import activates, object_block
from policies.types import Activation, Decision, Grant, ObjectDuty, Request, RuleSet

# Grants that are kept ready; more different ones than these are made ready each for its subject.
READY_MAX = 200_000


@dataclass(frozen=True, slots=True)
class PreparedSubject:
    """A subject made ready by one engine; decide with it on that engine only."""

    # What every decision reads stands together: of a hundred thousand subjects none is in the processor's cache.
    state: str
    valid_until: datetime | None
    mask: int
    """Bits of all roles, inherited ones too."""
    free_mask: int
    """Bits of the roles held without scope, limit and validity."""
    held: tuple[Held, ...]
    own_mask: int
    """Bits of the roles that are granted themselves."""
    id: str
    person: str
    properties: Mapping[str, Any]
    grants: tuple[Grant, ...]


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
        self._concerned: dict[str, int] = {}
        self._ready: dict[tuple[str, tuple[Any, ...]], Held] = {}
        self._refusals = {code: Decision.denied(code, rules.version) for code in RANK}
        self._nothing = self._refusals["no_permission"]
        self._not_canonical = Decision.denied("resource_invalid", rules.version)
        with _no_collection():
            for permission in rules.permissions:
                key = (permission.application, permission.resource_type, permission.action)
                bucket = self._buckets.get(key)
                if bucket is None:
                    bucket = self._buckets[key] = Bucket()
                bit = self._bits[permission.role]
                bucket.group(permission.pattern).add(ready(permission, bit, rules.version))
                known = self._concerned.get(permission.application, 0)
                if not known & bit:
                    self._concerned[permission.application] = known | bit
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
        grants = tuple(grants)
        held = tuple(map(self._held, grants))
        mask = own = free = 0
        for one in held:
            mask = mask | one.mask if mask else one.mask
            own = own | one.bit if own else one.bit
            if one.scope is None and one.limit is None and one.since is None and one.until is None:
                free = free | one.mask if free else one.mask
        # Equal integers are kept once: of a thousand roles they are most of what a subject takes.
        own, free = mask if own == mask else own, mask if free == mask else free
        return PreparedSubject(state, valid_until, mask, free, held, own, subject_id, person, properties or {}, grants)

    def evaluate(self, request: Request) -> Decision:
        """Decide. Deny overrides permit, nothing is permitted by default, an error never permits."""
        application, resource_type, resource_id, _ = request.resource
        found = self.reach(request.subject, application, resource_type, resource_id, request.action[0], request.now)
        return found if type(found) is Decision else self.weigh(request, *found)

    def reach(
        self,
        subject: PreparedSubject,
        application: str,
        resource_type: str,
        resource_id: str,
        action: str,
        now: datetime,
    ) -> Decision | tuple[Bucket, Sequence[Group], int, bool]:
        """The decision where the roles alone make it, as most do; else what `weigh` needs beside the whole request,
        which costs as much to make as all of this."""
        if subject.state != "active":
            return Decision.denied("subject_disabled", self.version)
        if subject.valid_until is not None and now >= subject.valid_until:
            return Decision.denied("subject_expired", self.version)
        bucket = self._buckets.get((application, resource_type, action))
        if bucket is None:
            return self._nothing
        groups = bucket.find(resource_id)
        if groups is None:
            return self._not_canonical
        mask, carried, denied = subject.mask, 0, False
        for group in groups:
            if group.denies and (group.inherited_denies & mask or group.own_denies & subject.own_mask):
                denied = True
            reached = group.permits & mask
            if reached:
                carried = carried | reached if carried else reached
        if not carried and not denied:
            return self._nothing
        if subject.free_mask & carried and not (denied or bucket.separated or mask & self._dynamic_mask):
            for group in groups:
                free = group.plain & subject.free_mask
                if free:
                    return group.rules(free & -free)[0].answer
        return bucket, groups, carried, denied

    def weigh(self, request: Request, bucket: Bucket, groups: Sequence[Group], carried: int, denied: bool) -> Decision:
        """The decision where the roles alone do not make it: what `reach` found, held against the request."""
        mask = request.subject.mask
        for rule in [rule for group in groups for rule in group.denies] if denied else ():
            if rule.bit & mask and self._denies(request, rule):
                return rule.answer
        if not carried:
            return self._nothing
        if mask & self._dynamic_mask:
            decision = self._one_by_one(request, groups)
        else:
            decision = self._permits(request, groups, carried)
        return self._separate(request, decision) if bucket.separated and decision.permit else decision

    def roles_of(self, subject: PreparedSubject, now: datetime) -> set[str]:
        """The roles that the subject holds at `now`, inherited ones too."""
        found: set[str] = set()
        for one in subject.held:
            if is_valid(one.since, one.until, now):
                found |= self._closure(one.role)[0]
        return found

    def juniors_of(self, role: str) -> frozenset[str]:
        """The role and all roles below it."""
        return self._closure(role)[0]

    def concerns(self, subject: PreparedSubject, application: str) -> bool:
        """Whether any rule of the application is about a role of the subject, whatever its scope and validity."""
        return bool(self._concerned.get(application, 0) & subject.mask)

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

    def _held(self, grant: Grant) -> Held:
        """The grant made ready, kept by what it says (whence it comes is not part of a decision)."""
        limits = (grant.scope, grant.limit, grant.valid_from, grant.valid_until)
        known = self._ready.get((grant.role, limits))
        if known is None:
            _, bit, mask = self._closure(grant.role)
            scope = grant.scope if any(grant.scope) else None
            known = Held(mask, bit, grant.role, scope, *limits[1:])
            if len(self._ready) < READY_MAX:
                self._ready[grant.role, limits] = known
        return known

    def _permits(self, request: Request, groups: Sequence[Group], carried: int) -> Decision:
        """The answer of the first rule that permits, or the refusal that came nearest to a permit.

        Each tuple is looked at once, however many rules it reaches; `carried` are the roles with a permit here.
        """
        usable, best = 0, "no_permission"
        refused = []
        for held in request.subject.held:
            reached = held[0]
            if reached & carried:
                code = check(held, request, self.org)
                if code:
                    refused.append((reached, code))
                else:
                    usable = usable | reached if usable else reached
        for group in groups if usable else ():
            hits = group.permits & usable
            while hits:
                bit = hits & -hits
                hits ^= bit
                for rule in group.rules(bit):
                    if rule.timed and not is_valid(
                        rule.permission.valid_from, rule.permission.valid_until, request.now
                    ):
                        best = nearer(best, "expired")
                    elif rule.condition is None or self.condition_holds(request, rule.condition, on_error=False):
                        return rule.answer
                    else:
                        best = nearer(best, "condition")
        for reached, code in refused:
            best = nearer(best, refused_by(groups, reached, code, request.now))
        return self._refusals[best]

    def _one_by_one(self, request: Request, groups: Sequence[Group]) -> Decision:
        """The same where a duty by session may forbid to use a tuple for a rule: each with each."""
        best, mask = "no_permission", request.subject.mask
        for group in groups:
            carried = group.permits & mask
            while carried:
                bit = carried & -carried
                carried ^= bit
                for rule in group.rules(bit):
                    found = self._permit(request, rule)
                    if isinstance(found, Decision):
                        return found
                    best = nearer(best, found)
        return self._refusals[best]

    def _permit(self, request: Request, rule: Rule) -> Decision | str:
        """The rule's answer when one tuple satisfies everything; else the reason of the one that came furthest."""
        permission = rule.permission
        if rule.timed and not is_valid(permission.valid_from, permission.valid_until, request.now):
            return "expired"
        best, bit = "no_permission", rule.bit
        holds = rule.condition is None
        for one in request.subject.held:
            if not one.mask & bit:
                continue
            code = check(one, request, self.org)
            if not code and not holds:
                holds = self.condition_holds(request, rule.condition, on_error=False)
                code = "" if holds else "condition"
            if not code:
                activated = self.activated(request, one, rule)
                if not isinstance(activated, str):
                    return rule.answer._replace(activates=activated) if activated else rule.answer
                code = "sod_dynamic"
            best = nearer(best, code)
        return best

    def activated(self, request: Request, held: Held, rule: Rule) -> tuple[Activation, ...] | str:
        """The roles of dynamic sets that this tuple uses for this rule, or the set that forbids it."""
        if not held.mask & self._dynamic_mask:
            return ()
        used = self._closure(held.role)[0] & self._dynamic_roles
        reaching = frozenset(role for role in used if rule.permission.role in self._closure(role)[0])
        return activates(self.rules.dynamic_duties, reaching, request.activations)

    def _denies(self, request: Request, rule: Rule) -> bool:
        """A deny holds when its role's tuple is valid here; what is not stated or cannot be evaluated denies."""
        permission = rule.permission
        if rule.timed and not is_valid(permission.valid_from, permission.valid_until, request.now):
            return False
        for one in request.subject.held:
            if (
                (one.mask if permission.inherited else one.bit) & rule.bit
                and is_valid(one.since, one.until, request.now)
                and check_scope(one.scope, request.resource[3], self.org) != "scope"
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
