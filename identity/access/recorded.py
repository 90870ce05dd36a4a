"""What a decision leaves in the audit: a record of its own, or an item of a record of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity.audit.kinds import Kind
from identity.core.record import Record

if TYPE_CHECKING:
    from identity.access.decide import AccessRequest, Decided


def record_of(request: AccessRequest, decided: Decided) -> Record:
    """The record of one decision."""
    return Record(
        kind=Kind.DECISION_MADE,
        result="permit" if decided.permit else "deny",
        reason=decided.reason,
        user=request.user,
        person=decided.person,
        application=request.application,
        resource_type=request.resource_type,
        resource_id=request.resource_id,
        action=request.action,
        intent=request.intent,
        policy_version=decided.policy_version,
        facts_revision=decided.facts_revision,
        rules=decided.rules,
        input=decided.input,
    )


def item_of(request: AccessRequest, decided: Decided) -> dict[str, Any]:
    """The decision as an item of a record of several; its names in the order in which they are stored, which saves
    sorting a hundred of them."""
    return {
        "action": request.action,
        "input": decided.input,
        "intent": request.intent,
        "person": decided.person,
        "reason": decided.reason,
        "resource_id": request.resource_id,
        "resource_type": request.resource_type,
        "result": "permit" if decided.permit else "deny",
        "rules": decided.rules,
        "user": request.user,
    }
