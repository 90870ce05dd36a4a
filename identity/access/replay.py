"""A recorded decision made again: from what its record holds, the facts known then and the rules in force then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.decide import AccessRequest, Decided, evaluate_in
from identity.access.snapshot import Snapshot, load
from identity.core.hot import parse_uuid
from identity.people.models import User
from policies import Act, Activation, Amount


@dataclass(frozen=True, slots=True)
class Question:
    """A request with everything that its answer is made from."""

    snapshot: Snapshot
    request: AccessRequest
    now: datetime
    acts: tuple[Act, ...] = ()
    activations: tuple[Activation, ...] = ()

    def answer(self) -> Decided:
        """The decision."""
        return evaluate_in(self.snapshot, self.request, self.now, self.acts, self.activations)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as its record tells it: what was asked, when, what was known, and the answer."""

    request: AccessRequest
    now: datetime
    acts: tuple[Act, ...]
    activations: tuple[Activation, ...]
    facts_revision: int
    policy_version: int
    permit: bool
    holder: UUID | None
    """The user to whom a role was to be given, where the question was that."""

    @property
    def users(self) -> set[UUID]:
        """Whom the decision was about."""
        found = (self.request.user, self.request.stands_for, self.holder)
        return {one for one in found if one is not None}

    def asked(self, snapshot: Snapshot) -> Question:
        """The same question, put to this snapshot."""
        return Question(snapshot, self.request, self.now, self.acts, self.activations)


def replay(connection: Connection, body: Mapping[str, Any], item: int | None = None) -> Decided:
    """The same answer and reasons as in the record `body` (or in this item of a batch), whatever has changed since.

    Raises `KeyError` for a record that is no decision.
    """
    return question(connection, body, item).answer()


def question(connection: Connection, body: Mapping[str, Any], item: int | None = None) -> Question:
    """What the record's decision was made from: its own input, the facts known then, the rules in force then.

    Raises `KeyError` for a record that is no decision, or has no such item.
    """
    one = recorded(body, item)
    return one.asked(load(connection, one.facts_revision, identities_of(connection, one.users)))


def recorded(body: Mapping[str, Any], item: int | None = None) -> Recorded:
    """The decision of a record's body, or of this item of a batch; raises `KeyError` for a record that is none."""
    try:
        return _recorded(body, item)
    except (IndexError, TypeError, ValueError) as error:
        raise KeyError(f"no decision: {error}") from None


def _recorded(body: Mapping[str, Any], item: int | None) -> Recorded:
    entry: Mapping[str, Any] = body if item is None else {**body, **body["data"]["items"][item]}
    stated = entry["input"]
    properties = stated["properties"]
    holder = properties.get("holder") if properties.get("holder_kind") == "user" else None
    return Recorded(
        request=AccessRequest(
            application=entry["application"],
            user=_id(entry.get("user")),
            resource_type=entry["resource_type"],
            resource_id=entry["resource_id"],
            action=entry["action"],
            properties=_properties(properties),
            action_properties=stated.get("action_properties", {}),
            context=stated["context"],
            intent=entry["intent"],
            sid=stated.get("sid"),
            stands_for=_id(stated.get("stands_for", {}).get("user")),
            subject_id=stated.get("subject", ""),
        ),
        now=datetime.fromisoformat(entry["at"]),
        acts=tuple(Act(*one) for one in stated.get("acts", ())),
        activations=tuple(Activation(*one) for one in stated.get("activations", ())),
        facts_revision=entry["facts_revision"],
        policy_version=entry["policy_version"],
        permit=entry["result"] == "permit",
        holder=parse_uuid(holder) if isinstance(holder, str) else None,
    )


def identities_of(connection: Connection, users: Collection[UUID]) -> list[UUID]:
    """All identities of these users' persons."""
    persons = select(User.person_id).where(User.id.in_(users))
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
