"""The search endpoints (AuthZEN §8), and where an application registers the instances that resource search walks."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite

from identity.access.decide import Access
from identity.access.search import Found, Search, find
from identity.apps.models import AppResource
from identity.apps.registry import App
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.authzen import wire
from identity.authzen.caller import Callers
from identity.core.db import Database
from identity.core.errors import Invalid, Refused
from identity.core.hot import HotCall, HotResponse
from identity.core.record import Record

PAGE_MAX = 1_000
PAGE_DEFAULT = 100
REGISTER_MAX = 1_000


@dataclass(frozen=True, slots=True)
class _Page:
    limit: int
    after: str


class SearchDoor:
    """Searches of applications that have the right to them: they tell whole lists, an evaluation tells one answer."""

    def __init__(self, callers: Callers, access: Access, database: Database, recorder: Recorder) -> None:
        self._callers = callers
        self._access = access
        self._database = database
        self._recorder = recorder

    def subject(self, call: HotCall) -> HotResponse:
        """POST /access/v1/search/subject (§8.4)."""
        return self._callers.guarded(call, lambda call, app: self._search(call, app, "subject"))

    def resource(self, call: HotCall) -> HotResponse:
        """POST /access/v1/search/resource (§8.5)."""
        return self._callers.guarded(call, lambda call, app: self._search(call, app, "resource"))

    def action(self, call: HotCall) -> HotResponse:
        """POST /access/v1/search/action (§8.6)."""
        return self._callers.guarded(call, lambda call, app: self._search(call, app, "action"))

    def register(self, call: HotCall) -> HotResponse:
        """POST /access/v1/resources: {"put": [{type, id, properties}], "remove": [{type, id}]}; answers the counts."""
        return self._callers.guarded(call, self._register)

    def _search(self, call: HotCall, app: App, sought: wire.Sought) -> HotResponse:
        if "search" not in app.rights:
            self._refuse(call, app)
            raise Refused("This application may not search.", code="search_not_allowed")
        body = call.json()
        snapshot = self._access.snapshot()
        resolve = self._callers.resolver(call, app, snapshot)
        request = wire.parse(body, app, snapshot, resolve, sought)
        query = hashlib.sha256(orjson.dumps([sought, app.code, _without_page(body)], option=orjson.OPT_SORT_KEYS))
        page = _page(body, query.hexdigest())
        known = sought != "subject" or body["subject"]["type"] == "user"
        found = Found(())
        if known and page.limit:
            with self._database.read() as connection:
                found = find(connection, snapshot, Search(app, sought, request, page.limit, page.after), call.now)
        call.records.append(
            Record(
                kind=Kind.SEARCH_MADE,
                result="success",
                user=request.user,
                application=app.code,
                resource_type=request.resource_type,
                resource_id=request.resource_id or None,
                action=request.action or None,
                policy_version=snapshot.policy_version,
                facts_revision=snapshot.facts_revision,
                data={"sought": sought, "count": len(found.ids), "more": bool(found.next_after)},
            )
        )
        self._recorder.submit(call, call.records)
        return HotResponse.json(200, _answer(body, sought, found, page, query.hexdigest()))

    def _refuse(self, call: HotCall, app: App) -> None:
        call.records.append(
            Record(kind=Kind.SEARCH_MADE, result="refused", reason="search_not_allowed", application=app.code)
        )
        self._recorder.submit(call, call.records)

    def _register(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        if not isinstance(body, dict):
            raise Invalid("The request must be an object.", code="invalid_request")
        put, remove = _entries(body, "put"), _entries(body, "remove")
        with self._database.write() as connection:
            for one in remove:
                connection.execute(
                    delete(AppResource).where(
                        AppResource.application_id == app.id,
                        AppResource.resource_type == one["type"],
                        AppResource.resource_id == one["id"],
                    )
                )
            maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            for one in put:
                values = {"properties": wire.properties(one, "put"), "registered_at": call.now}
                connection.execute(
                    maker(AppResource)
                    .values(application_id=app.id, resource_type=one["type"], resource_id=one["id"], **values)
                    .on_conflict_do_update(
                        index_elements=["application_id", "resource_type", "resource_id"], set_=values
                    )
                )
            data = {"put": len(put), "removed": len(remove), "types": sorted({one["type"] for one in (*put, *remove)})}
            record = Record(kind=Kind.RESOURCES_REGISTERED, result="success", application=app.code, data=data)
            self._recorder.write(connection, call, [record], None)
        return HotResponse.json(200, {"put": len(put), "removed": len(remove)})


def _entries(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = body.get(name, [])
    if not isinstance(found, list) or len(found) > REGISTER_MAX:
        raise Invalid(f"{name} must be a list of at most {REGISTER_MAX}.", code="invalid_request")
    entries = [wire.entity({name: one}, name, ("type", "id")) for one in found]
    for one in entries:
        wire.amount(wire.properties(one, name), name)
    return entries


def _without_page(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in {"subject", "action", "resource", "context"}}


def _page(body: dict[str, Any], query: str) -> _Page:
    """The wanted page (§8.2.1). A token belongs to one query: with it, neither the query nor the limit may change."""
    page = body.get("page", {})
    if not isinstance(page, dict):
        raise Invalid("page must be an object.", code="invalid_request")
    limit, token = page.get("limit"), page.get("token")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise Invalid("page.limit must be a non-negative integer.", code="invalid_request")
    if not token:
        return _Page(min(PAGE_DEFAULT if limit is None else limit, PAGE_MAX), "")
    try:
        known, first_limit, after = orjson.loads(base64.urlsafe_b64decode(token))
        valid = known == query and isinstance(first_limit, int) and 0 < first_limit <= PAGE_MAX
    except (binascii.Error, orjson.JSONDecodeError, TypeError, ValueError):
        valid = False
    if not valid or not isinstance(after, str) or (limit is not None and min(limit, PAGE_MAX) != first_limit):
        raise Invalid("page.token does not belong to this query.", code="invalid_request")
    return _Page(first_limit, after)


def _answer(body: dict[str, Any], sought: wire.Sought, found: Found, page: _Page, query: str) -> dict[str, Any]:
    token = ""
    if found.next_after:
        token = base64.urlsafe_b64encode(orjson.dumps([query, page.limit, found.next_after])).decode()
    results: Iterable[dict[str, str]] = (
        ({"name": one} for one in found.ids)
        if sought == "action"
        else ({"type": body[sought]["type"], "id": one} for one in found.ids)
    )
    return {"page": {"next_token": token, "count": len(found.ids)}, "results": list(results)}
