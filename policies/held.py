"""One grant in a decision: whether it holds here, now and for this amount, and how far a refusal came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from policies.index import Group
from policies.types import Amount, Request, Scope

# The reason of a refusal is that of the tuple that came furthest.
RANK = {
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
    """A grant as a decision reads it; equal grants of any subjects are one object. `bit` is its own role's, `mask` has
    also those of the roles below it; `scope` None = anywhere."""

    mask: int
    bit: int
    role: str
    scope: Scope | None
    limit: Amount | None
    since: datetime | None
    until: datetime | None


def nearer(best: str, code: str) -> str:
    """Of two refusals the one that came nearer to a permit."""
    return code if RANK[code] > RANK[best] else best


def is_valid(since: datetime | None, until: datetime | None, now: datetime) -> bool:
    """Whether `now` lies in a validity; its end is exclusive."""
    return (since is None or now >= since) and (until is None or now < until)


def check(held: Held, request: Request, org: Mapping[str, frozenset[str]]) -> str:
    """Empty when this tuple satisfies scope, limit and validity; else what it does not satisfy."""
    _, _, _, scope, limit, since, until = held
    if (since is not None and request.now < since) or (until is not None and request.now >= until):
        return "expired"
    properties = request.resource[3]
    code = "" if scope is None else check_scope(scope, properties, org)
    return code if code or limit is None else check_limit(limit, properties)


def check_limit(limit: Amount | None, properties: Mapping[str, Any]) -> str:
    """Empty within the tuple's limit, else the reason why not."""
    if limit is None:
        return ""
    amount = properties.get("amount")
    if not isinstance(amount, Amount):
        return "limit_missing"
    if amount.currency != limit.currency:
        return "currency"
    return "" if 0 <= amount.value <= limit.value else "limit"


def check_scope(scope: Scope | None, properties: Mapping[str, Any], org: Mapping[str, frozenset[str]]) -> str:
    """Empty inside the tuple's scope, "scope" outside, "scope_missing" when the request does not state enough.

    What is stated in another form than a text is not stated, nor is a unit that we do not know.
    """
    missing = ""
    if scope is None:
        return missing
    company, org_unit, business_type = scope
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


def refused_by(groups: Sequence[Group], reached: int, code: str, now: datetime) -> str:
    """The refusal of a tuple for `code` that reaches permits here, where a rule's own validity comes first."""
    if not any(group.timed for group in groups):
        return code
    best = "no_permission"
    for group in groups:
        hits = group.permits & reached
        while hits:
            bit = hits & -hits
            hits ^= bit
            for rule in group.rules(bit):
                ended = rule.timed and not is_valid(rule.permission.valid_from, rule.permission.valid_until, now)
                best = nearer(best, "expired" if ended else code)
    return best
