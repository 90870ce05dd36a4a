"""A recorded decision made again: from what its record holds, the facts known then and the rules in force then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.decide import AccessRequest, Decided, evaluate_in
from identity.access.snapshot import load
from identity.core.hot import parse_uuid
from identity.people.models import User
from policies import Act, Activation, Amount


def replay(connection: Connection, body: Mapping[str, Any], item: int | None = None) -> Decided:
    """The same answer and reasons as in the record `body` (or in this item of a batch), whatever has changed since.

    Raises `KeyError` for a record that is no decision.
    """
    entry: Mapping[str, Any] = body if item is None else {**body, **body["data"]["items"][item]}
    recorded = entry["input"]
    user, principal = _id(entry.get("user")), _id(recorded.get("stands_for", {}).get("user"))
    snapshot = load(connection, entry["facts_revision"], _concerned(connection, recorded, user, principal))
    request = AccessRequest(
        application=entry["application"],
        user=user,
        resource_type=entry["resource_type"],
        resource_id=entry["resource_id"],
        action=entry["action"],
        properties=_properties(recorded["properties"]),
        action_properties=recorded.get("action_properties", {}),
        context=recorded["context"],
        intent=entry["intent"],
        sid=recorded.get("sid"),
        stands_for=principal,
    )
    acts = tuple(Act(*one) for one in recorded.get("acts", ()))
    activations = tuple(Activation(*one) for one in recorded.get("activations", ()))
    now = datetime.fromisoformat(entry["at"])
    return evaluate_in(snapshot, request, now, acts, activations)


def _concerned(connection: Connection, recorded: Mapping[str, Any], *users: UUID | None) -> list[UUID]:
    """All identities of the persons whom the decision was about, also of the one to whom a role was to be given."""
    stated = recorded["properties"]
    holder = stated.get("holder") if stated.get("holder_kind") == "user" else None
    ids = {one for one in (*users, parse_uuid(holder) if isinstance(holder, str) else None) if one is not None}
    persons = select(User.person_id).where(User.id.in_(ids))
    return list(connection.execute(select(User.id).where(User.person_id.in_(persons))).scalars())


def _id(value: Any) -> UUID | None:
    return UUID(value) if value else None


def _properties(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """As the engine takes them: an amount is recorded as its scaled integer and its currency."""
    amounts = {
        name: Amount(value["value"], value["currency"])
        for name, value in recorded.items()
        if name in {"amount", "limit"} and isinstance(value, Mapping)
    }
    return {**recorded, **amounts}
