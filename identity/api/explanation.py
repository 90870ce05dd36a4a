"""An explanation as JSON."""

from __future__ import annotations

from typing import Any

from identity.access.explain import Duty, Explanation, Missing, Origin, Step, Way
from identity.audit.note import stamp
from identity.roles.delegation import Bounds
from identity.roles.near import Offer
from policies import Amount, Permission, Scope


def as_data(found: Explanation) -> dict[str, Any]:
    """The explanation for those who may read rules; ids of persons, not their names."""
    request, user = found.request, found.user
    data: dict[str, Any] = {
        "decision": found.permit,
        "reason": found.reason,
        "at": stamp(found.now),
        "policy_version": found.policy_version,
        "facts_revision": found.facts_revision,
        "rules": list(found.rules),
        "question": {
            "application": request.application,
            "user": str(request.user) if request.user else None,
            "login": user.login if user else None,
            "person": str(user.person_id) if user else None,
            "action": request.action,
            "resource": {
                "type": request.resource_type,
                "id": request.resource_id,
                "properties": plain(request.properties),
            },
            "context": plain(request.context),
            "intent": request.intent,
        },
        "ways": [_way(one) for one in found.ways],
        "missing": [_missing(one) for one in found.missing],
        "duties": [_duty(one) for one in found.duties],
        "admin_grants": [{**_bounds(one), "reason": code or None} for one, code in found.admin_grants],
    }
    if found.obligations:
        data["obligations"] = list(found.obligations)
    if found.recorded:
        recorded = found.recorded
        data["record"] = {
            "id": str(recorded.id),
            "item": recorded.item,
            "decision": recorded.result == "permit",
            "reason": recorded.reason,
            "same": recorded.same,
        }
    return data


def plain(value: Any) -> Any:
    """A value of a question as JSON; amounts as they are asked with."""
    if isinstance(value, Amount):
        number, _, currency = str(value).partition(" ")
        return {"value": number, "currency": currency}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return value


def _way(one: Way) -> dict[str, Any]:
    grant = one.grant
    return {
        "decisive": one.decisive,
        "effect": one.permission.effect,
        "reason": one.code or None,
        "steps": [_step(step) for step in one.steps],
        "scope": _scope(grant.scope),
        "limit": plain(grant.limit),
        "valid_from": stamp(grant.valid_from) if grant.valid_from else None,
        "valid_until": stamp(grant.valid_until) if grant.valid_until else None,
        "permission": _permission(one.permission),
        "checks": [{"name": check.name, "holds": not check.code, "reason": check.code or None} for check in one.checks],
    }


def _step(one: Step) -> dict[str, Any]:
    return {"kind": one.kind, "id": one.id, **({"since": _origin(one.origin)} if one.origin else {})}


def _origin(one: Origin) -> dict[str, Any]:
    return {"policy_version": one.version, "by": one.by, "at": stamp(one.at), "note": one.note}


def _permission(one: Permission) -> dict[str, Any]:
    return {
        "id": one.id,
        "role": one.role,
        "resource_type": one.resource_type,
        "pattern": one.pattern,
        "action": one.action,
        "condition": one.condition,
    }


def _missing(one: Missing) -> dict[str, Any]:
    return {
        "permission": _permission(one.permission),
        "roles": list(one.roles),
        "mappings": [_offer(offer) for offer in one.offers],
    }


def _offer(one: Offer) -> dict[str, Any]:
    row = one.row
    found = {"id": row.id, "source_kind": row.source_kind, "source": row.source, "role": row.role, "reason": one.why}
    return {**found, **({"by": one.by} if one.by else {})}


def _duty(one: Duty) -> dict[str, Any]:
    return {
        "id": one.id,
        "title": one.title,
        "actions": list(one.actions),
        "acts": [{"person": act.person, "action": act.action} for act in one.acts],
        "reason": one.code or None,
    }


def _bounds(one: Bounds) -> dict[str, Any]:
    return {
        "id": one.id,
        "powers": sorted(one.powers),
        "roles": list(one.roles),
        "scope": _scope(one.scope),
        "limit": plain(one.limit),
        "max_days": one.max_days,
    }


def _scope(one: Scope) -> dict[str, str]:
    return {name: value for name, value in one._asdict().items() if value}
