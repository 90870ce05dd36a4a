"""The specification as thirty lines of Python: slow, without an index, and easy to read beside foundations §4."""

from __future__ import annotations

from typing import Any

from policies import Grant, Permission, Request, RuleSet

# What the conditions of the random rule sets amount to; None = an error.
CONDITIONS: dict[str, Any] = {
    "true": lambda _: True,
    "false": lambda _: False,
    "1 / 0 == 1": lambda _: None,
    'context.channel == "web"': lambda request: request.context.get("channel") == "web" if request.context else None,
}


def permits(rules: RuleSet, org: dict[str, tuple[str, ...]], request: Request) -> bool:  # noqa: C901  the whole specification
    """Default deny; a deny overrides; one tuple satisfies scope, limit and validity; duties have the last word."""
    subject, now, said = request.subject, request.now, request.resource.properties

    def below(role: str) -> set[str]:
        found = {role}
        while more := {junior for senior, junior in rules.inheritance if senior in found} - found:
            found |= more
        return found

    def valid(one: Grant | Permission) -> bool:
        return (one.valid_from is None or one.valid_from <= now) and (one.valid_until is None or now < one.valid_until)

    def inside(grant: Grant) -> bool | None:
        """Whether the request lies in the tuple's scope; None when it does not say."""
        answers = [
            None if name not in said else wanted == said[name] if name != "org_unit" else wanted in org[said[name]]
            for name, wanted in grant.scope._asdict().items()
            if wanted is not None
        ]
        return False if False in answers else None if None in answers else True

    def within(grant: Grant) -> bool:
        amount = said.get("amount")
        return grant.limit is None or bool(
            amount and amount.currency == grant.limit.currency and 0 <= amount.value <= grant.limit.value
        )

    def holds(rule: Permission, on_error: bool) -> bool:
        answer = True if rule.condition is None else CONDITIONS[rule.condition](request)
        return valid(rule) and (on_error if answer is None else answer)

    def denies(rule: Permission, grant: Grant) -> bool:
        reached = rule.role in below(grant.role) if rule.inherited else rule.role == grant.role
        return reached and valid(grant) and inside(grant) is not False and holds(rule, on_error=True)

    def free(rule: Permission, grant: Grant) -> bool:
        """Whether no duty of the session forbids to use this tuple for this rule."""
        for duty in rules.dynamic_duties:
            used = {role for role in duty.roles if role in below(grant.role) and rule.role in below(role)}
            active = {role for name, role in request.activations if name == duty.id}
            if used and not used & active and len(active) + 1 >= duty.n:
                return False
        return True

    def allows(rule: Permission, grant: Grant) -> bool:
        reached = rule.role in below(grant.role) and valid(grant) and inside(grant) is True and within(grant)
        return reached and holds(rule, on_error=False) and free(rule, grant)

    def separated() -> bool:
        """Whether a duty by object forbids it."""
        for duty in rules.object_duties:
            if request.action.name in duty.actions:
                others = [
                    act for act in request.acts if act.action in duty.actions and act.action != request.action.name
                ]
                earlier = duty.actions[: duty.actions.index(request.action.name)]
                known = not earlier or any(act.action in earlier for act in others)
                if not known or any(act.person in {subject.person, request.stands_for} for act in others):
                    return True
        return False

    concerned = [
        rule
        for rule in rules.permissions
        if (rule.application, rule.resource_type, rule.action) == (*request.resource[:2], request.action.name)
        and matches(rule.pattern, request.resource.id)
    ]
    pairs = [(rule, grant) for rule in concerned for grant in subject.grants]
    if any(denies(rule, grant) for rule, grant in pairs if rule.effect == "deny"):
        return False
    return any(allows(rule, grant) for rule, grant in pairs if rule.effect == "permit") and not separated()


def matches(pattern: str, resource_id: str) -> bool:
    """`*` is one segment, a last `**` any rest, also none."""
    parts, segments = pattern.split("/"), resource_id.split("/")
    if parts[-1] == "**":
        parts, segments = parts[:-1], segments[: len(parts) - 1]
    return len(parts) == len(segments) and all(p in {"*", s} for p, s in zip(parts, segments, strict=True))
