"""Searches: whom, on what, or what a permit would be given for (AuthZEN Authorization API 1.0 §8).

A search decides nothing: it walks candidates in a stable order and keeps those that the engine permits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.decide import AccessRequest, engine_request
from identity.access.snapshot import Snapshot, SnapshotUser
from identity.apps.models import AppAccount, AppResource
from identity.apps.registry import App
from identity.roles.models import ObjectAct
from policies import Act, Amount

# Registered instances that one page looks at, at the most; it may so hold fewer than its limit, and a next token.
RESOURCES_MAX = 10_000
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Search:
    """What is sought in one application; `request` holds the rest of the question, `after` the last one seen."""

    app: App
    sought: Literal["subject", "resource", "action"]
    request: AccessRequest
    limit: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One page: ids (names for actions) in order; `next_after` continues behind it and is empty at the end."""

    ids: tuple[str, ...]
    next_after: str = ""


def find(connection: Connection, snapshot: Snapshot, search: Search, now: datetime) -> Found:
    """The page of `search` that begins behind `search.after`."""
    if search.sought == "subject":
        return _subjects(connection, snapshot, search, now)
    user = snapshot.users.get(search.request.user) if search.request.user else None
    if user is None:
        return Found(())
    if search.sought == "resource":
        return _resources(connection, snapshot, search, user, now)
    acts = _acts(connection, search.request, [search.request.resource_id]).get(search.request.resource_id, ())
    return Found(
        tuple(
            action
            for action in snapshot.engine.actions_on(search.app.code, search.request.resource_type)
            if _permitted(snapshot, search.request._replace(action=action), user, now, acts)
        )
    )


def _permitted(
    snapshot: Snapshot, request: AccessRequest, user: SnapshotUser, now: datetime, acts: tuple[Act, ...]
) -> bool:
    return snapshot.engine.evaluate(engine_request(request, user, now, (*acts, *request.stated))).permit


def _subjects(connection: Connection, snapshot: Snapshot, search: Search, now: datetime) -> Found:
    request = search.request
    acts = _acts(connection, request, [request.resource_id]).get(request.resource_id, ())
    found: list[str] = []
    last = ""
    for chunk in chunks(_candidates(snapshot, search)):
        named = subject_ids(connection, search.app, chunk)
        for user in chunk:
            last = str(user.id)
            name = named.get(user.id)
            if name is not None and _permitted(snapshot, request, user, now, acts):
                found.append(name)
                if len(found) == search.limit:
                    return Found(tuple(found), last)
    return Found(tuple(found))


def _candidates(snapshot: Snapshot, search: Search) -> Iterator[SnapshotUser]:
    """Users behind the cursor whose roles carry the action there at all, oldest first (ids grow with time)."""
    request = search.request
    carriers = snapshot.engine.carriers(search.app.code, request.resource_type, request.action, request.resource_id)
    after = UUID(search.after) if search.after else None
    for user_id, user in snapshot.users.items():
        if user.subject.mask & carriers and (after is None or user_id > after):
            yield user


def chunks(users: Iterable[SnapshotUser]) -> Iterator[list[SnapshotUser]]:
    """The users in lists of at most `CHUNK`."""
    chunk: list[SnapshotUser] = []
    for user in users:
        chunk.append(user)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def subject_ids(connection: Connection, app: App, users: list[SnapshotUser]) -> Mapping[UUID, str]:
    """How the application names these users; those whom it does not know are left out."""
    if app.subject_id_field == "sub":
        return {user.id: user.sub for user in users}
    column = getattr(AppAccount, app.subject_id_field)
    rows = connection.execute(
        select(AppAccount.user_id, column).where(
            AppAccount.application_id == app.id,
            AppAccount.user_id.in_([user.id for user in users]),
            AppAccount.status == "active",
            column.is_not(None),
        )
    )
    return dict(rows.all())


def _resources(connection: Connection, snapshot: Snapshot, search: Search, user: SnapshotUser, now: datetime) -> Found:
    """Among the instances that the application registered, each with its registered properties."""
    request = search.request
    found: list[str] = []
    last = search.after
    for _ in range(RESOURCES_MAX // CHUNK):
        rows = connection.execute(
            select(AppResource.resource_id, AppResource.properties)
            .where(
                AppResource.application_id == search.app.id,
                AppResource.resource_type == request.resource_type,
                AppResource.resource_id > last,
            )
            .order_by(AppResource.resource_id)
            .limit(CHUNK)
        ).all()
        acts = _acts(connection, request, [row.resource_id for row in rows])
        for row in rows:
            last = row.resource_id
            asked = request._replace(resource_id=row.resource_id, properties=_with_amount(row.properties))
            if _permitted(snapshot, asked, user, now, acts.get(row.resource_id, ())):
                found.append(row.resource_id)
                if len(found) == search.limit:
                    return Found(tuple(found), last)
        if len(rows) < CHUNK:
            return Found(tuple(found))
    return Found(tuple(found), last)


def _with_amount(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    if "amount" not in properties:
        return properties
    return {**properties, "amount": Amount.parse(properties["amount"])}


def _acts(connection: Connection, request: AccessRequest, ids: list[str]) -> Mapping[str, tuple[Act, ...]]:
    """The acts known of these objects (foundations §4)."""
    found: dict[str, tuple[Act, ...]] = {}
    rows = connection.execute(
        select(ObjectAct.resource_id, ObjectAct.person_id, ObjectAct.action).where(
            ObjectAct.application == request.application,
            ObjectAct.resource_type == request.resource_type,
            ObjectAct.resource_id.in_(ids),
        )
    )
    for resource_id, person, action in rows:
        found[resource_id] = (*found.get(resource_id, ()), Act(str(person), action))
    return found
