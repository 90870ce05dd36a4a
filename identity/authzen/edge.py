"""Decisions that an application made itself, sent back in batches: kept as its word (origin edge), never as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.apps.registry import App
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.authzen import wire
from identity.authzen.caller import Callers
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, parse_uuid
from identity.core.once import consume_many
from identity.core.record import Record

BATCH_MAX = 1_000
# What is older is not taken any more: by the caller's own clock, so that it may be wrong.
AGE_MAX = timedelta(hours=24)
# Its clock may have been set back a little between a decision and the sending.
SLACK = timedelta(seconds=10)
KEPT = timedelta(hours=48)
CONSUMED = "edge-decision"
RULES_MAX = 20
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NUMBER_MAX = 2**53


@dataclass(frozen=True, slots=True)
class _Reported:
    """One decision as the application tells of it; whom it calls `subject` is not said in the `entry`."""

    id: str
    subject: str
    entry: dict[str, Any]


class EdgeDoor:
    """POST /access/v1/decisions: {"sent_at", "decisions": [{id, at, subject, action, resource, context, decision,
    reason, rules, policy_version, facts_revision}]}; answers how many were recorded, were known, and were refused."""

    def __init__(self, callers: Callers, access: Access, database: Database, recorder: Recorder) -> None:
        self._callers = callers
        self._access = access
        self._database = database
        self._recorder = recorder

    def report(self, call: HotCall) -> HotResponse:
        """Take a batch; what is sent again within two days, whole or in part, is not taken again."""
        return self._callers.guarded(call, self._report)

    def _report(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        if not isinstance(body, dict) or not isinstance(body.get("decisions"), list):
            raise Invalid("decisions must be a list.", code="invalid_request")
        if not 0 < len(body["decisions"]) <= BATCH_MAX:
            raise Invalid(f"decisions must be a list of 1 to {BATCH_MAX}.", code="invalid_request")
        sent_at = _time(body, "sent_at")
        taken: dict[str, _Reported] = {}
        refused: list[dict[str, str]] = []
        repeated = 0
        for item in body["decisions"]:
            try:
                one = _parse(item, sent_at)
            except Invalid as error:
                given = item.get("id") if isinstance(item, dict) else None
                refused.append({"id": given[:64] if isinstance(given, str) else "", "reason": error.public})
                continue
            repeated += one.id in taken
            taken.setdefault(one.id, one)
        people = self._people(app, {one.subject for one in taken.values()})
        with self._database.write() as connection:
            first = consume_many(connection, CONSUMED, [f"{app.id}:{one}" for one in taken], call.now + KEPT)
            new = [one for one in taken.values() if f"{app.id}:{one.id}" in first]
            if new or refused:
                call.records.append(_record(app, new, refused, people, call.now - sent_at))
                self._recorder.write(connection, call, call.records, None)
        counts = {"recorded": len(new), "repeated": repeated + len(taken) - len(new), "refused": refused}
        return HotResponse.json(200, counts)

    def _people(self, app: App, subjects: set[str]) -> Mapping[str, tuple[str, str]]:
        """Subject id → our user and person, for those whom we know."""
        snapshot = self._access.snapshot()
        users = self._callers.users(app, snapshot, subjects)
        return {name: known for name, user_id in users.items() if (known := _ids(snapshot, user_id)) is not None}


def _ids(snapshot: Snapshot, user_id: UUID | None) -> tuple[str, str] | None:
    user = snapshot.user(user_id) if user_id is not None else None
    return None if user is None else (str(user.id), str(user.person_id))


def _record(
    app: App,
    new: list[_Reported],
    refused: list[dict[str, str]],
    people: Mapping[str, tuple[str, str]],
    skew: timedelta,
) -> Record:
    """One record for the batch, its decisions in it; whom we do not know stands without a name."""
    items = []
    for one in new:
        user, person = people.get(one.subject, (None, None))
        items.append({**one.entry, "user": user, "person": person})
    denied = sum(one["result"] == "deny" for one in items)
    return Record(
        kind=Kind.DECISIONS_REPORTED,
        result="refused" if not items else "deny" if denied else "permit",
        application=app.code,
        data={
            "origin": "edge",
            "permitted": len(items) - denied,
            "denied": denied,
            "refused": len(refused),
            "skew_s": round(skew.total_seconds(), 3),
            "items": items,
        },
    )


def _parse(item: Any, sent_at: datetime) -> _Reported:
    """One reported decision; raises `Invalid` with what is wrong."""
    if not isinstance(item, dict):
        raise Invalid("A decision must be an object.", code="invalid_request")
    given = item.get("id")
    decision_id = parse_uuid(given) if isinstance(given, str) else None
    if decision_id is None:
        raise Invalid("id must be a UUID.", code="invalid_request")
    at = _time(item, "at")
    if not -SLACK <= sent_at - at <= AGE_MAX:
        raise Invalid("at must be within 24 h before sent_at.", code="invalid_request")
    subject = wire.entity(item, "subject", ("type", "id"))
    action = wire.entity(item, "action", ("name",))
    resource = wire.entity(item, "resource", ("type", "id"))
    context = item.get("context", {})
    if subject["type"] != "user" or not isinstance(context, dict):
        raise Invalid("subject.type must be user, and context an object.", code="invalid_request")
    decision, reason, rules = item.get("decision"), item.get("reason", ""), item.get("rules", [])
    if not isinstance(decision, bool):
        raise Invalid("decision must be true or false.", code="invalid_request")
    if not isinstance(reason, str) or not _CODE.fullmatch(reason):
        raise Invalid("reason must be a code.", code="invalid_request")
    known = isinstance(rules, list) and len(rules) <= RULES_MAX
    if not known or not all(isinstance(one, str) and len(one) <= 64 for one in rules):
        raise Invalid(f"rules must be a list of at most {RULES_MAX} ids.", code="invalid_request")
    given_input = {"properties": wire.properties(resource, "resource"), "context": context}
    if wire.properties(action, "action"):
        given_input["action_properties"] = action["properties"]
    entry = {
        "id": str(decision_id),
        "at": at.isoformat(),
        "resource_type": resource["type"],
        "resource_id": resource["id"],
        "action": action["name"],
        "result": "permit" if decision else "deny",
        "reason": reason,
        "rules": rules,
        "policy_version": _number(item, "policy_version"),
        "facts_revision": _number(item, "facts_revision"),
        "input": given_input,
    }
    return _Reported(str(decision_id), subject["id"], entry)


def _time(body: Mapping[str, Any], name: str) -> datetime:
    """A time with its zone (RFC 3339); raises `Invalid`."""
    value = body.get(name)
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise Invalid(f"{name} must be a time with its zone.", code="invalid_request")


def _number(item: Mapping[str, Any], name: str) -> int:
    value = item.get(name)
    if type(value) is not int or not 0 <= value < _NUMBER_MAX:
        raise Invalid(f"{name} must be a number.", code="invalid_request")
    return value
