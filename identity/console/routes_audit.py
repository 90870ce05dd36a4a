"""The auditor's pages; reading the record is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from flask import Blueprint, g, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.audit import query
from identity.audit.kinds import Kind
from identity.audit.saved import FIELDS, saved_searches
from identity.console import present, queries
from identity.console.inputs import parse_day, parse_record_key
from identity.console.routes_people import paging
from identity.core.errors import NotFound
from identity.core.hot import parse_uuid
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, permission, use
from identity.people.inputs import fold_login
from identity.people.models import User
from identity.roles import rules
from identity.roles.mapping import CONSOLE_APPLICATION

bp = Blueprint("audit", __name__)

RESULTS = ("success", "permit", "deny", "refused", "failed")
# What one record says about itself, and where it stands on its page already.
_SHOWN = frozenset(
    {
        *("actor", "at", "ip", "request_id", "user_agent", "v", "id", "kind", "result", "reason", "user", "person"),
        *("session", "application", "resource_type", "resource_id", "action", "intent", "policy_version"),
        *("facts_revision", "before", "after", "input", "rules", "why", "reference", "personal", "data"),
    }
)


@bp.get("/admin/audit")
@permission("read", "audit")
def search() -> Response:
    """Search the record."""
    args, zone = request.args, use(Settings).zone
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        page = query.search(connection, filter_of(unit, args, zone), parse_record_key(args.get("after", "")))
        shown = {name: value for name, value in args.items() if value and name != "after"}
        unit.record(Record(kind=Kind.AUDIT_SEARCHED, result="success", data={"filter": shown, "rows": len(page.rows)}))
        names = _names(connection, page.rows)
        saved = saved_searches(unit)
    kinds: dict[str, list[Kind]] = {}
    for one in Kind:
        kinds.setdefault(one.partition(".")[0], []).append(one)
    return make_response(
        render_template(
            "console/audit.html",
            rows=[(row, present.sentence(row, names)) for row in page.rows],
            complete_to=page.complete_to,
            searched_to=page.searched_to,
            kinds=kinds,
            results=RESULTS,
            apps=sorted(use(Registry).current().by_code.values(), key=lambda one: one.code),
            args=args,
            saved=saved,
            fields=sorted(FIELDS),
            me=g.actor.user,
            more=any(args.get(name) for name in ("kind", "object", "reason", "request_id", "since", "until", "own")),
            paging=paging(_text(page.next)),
        )
    )


@bp.get("/admin/audit/<uuid:record_id>")
@permission("read", "audit")
def record(record_id: UUID) -> Response:
    """One whole record."""
    with open_unit(write=False) as unit:
        row = query.read(unit.db.connection(), record_id)
        if row is None:
            raise NotFound("There is no such record, or it cannot be found yet.")
        unit.record(Record(kind=Kind.AUDIT_READ, result="success", resource_type="audit", resource_id=str(record_id)))
        names = _names(unit.db.connection(), (row,))
    body = row.body
    data = {name: value for name, value in body.get("data", {}).items() if name != "items"}
    rest = {name: value for name, value in body.items() if name not in _SHOWN}
    person = parse_uuid(str(body.get("person", "")))
    return make_response(
        render_template(
            "console/audit_record.html",
            row=row,
            body=body,
            sentence=present.sentence(row, names),
            person=names.get(person) if person else None,
            changes=present.changes(body),
            data=present.pairs({**data, **rest}),
            input=present.pairs(body.get("input")),
            items=body.get("data", {}).get("items", []),
            rules=_rules(body.get("rules", ())),
            raw=orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode(),
        )
    )


def filter_of(unit: Unit, fields: Mapping[str, str], zone: ZoneInfo) -> query.Filter:
    """What the search form's fields look for; raises `Invalid` for a date that is none."""
    return query.Filter(
        person=_person(unit, fields.get("person", "")),
        application=fields.get("application") or None,
        resource_id=fields.get("object") or None,
        kind=fields.get("kind") or None,
        result=fields.get("result") or None,
        reason=fields.get("reason") or None,
        request_id=fields.get("request_id") or None,
        since=parse_day(fields.get("since", ""), zone),
        until=parse_day(fields.get("until", ""), zone, end=True),
        text=fields.get("q", "")[:200] or None,
        without_permits_of=None if _own_pages_wanted(fields) else CONSOLE_APPLICATION,
    )


def _own_pages_wanted(fields: Mapping[str, str]) -> bool:
    """Whether also the decisions are looked for by which the console opened its own pages: they outnumber all else."""
    return any(fields.get(name) for name in ("own", "request_id", "object")) or (
        fields.get("application") == CONSOLE_APPLICATION
    )


def _rules(ids: Any) -> list[tuple[str, Any]]:
    """The named rules, each with its text where the version in force still has it."""
    content = use(Access).snapshot().content
    known = {rules.row_id(one): one for one in content.permissions}
    duties = {one.id: one for one in content.duties}
    return [(one, known.get(one) or duties.get(one)) for one in ids]


def _names(connection: Any, rows: Any) -> dict[UUID, str]:
    persons = {row.person or parse_uuid(str(row.body.get("person", ""))) for row in rows}
    return queries.names(connection, [one for one in persons if one is not None])


def _person(unit: Any, text: str) -> UUID | None:
    """A person by login or id; an unknown one finds nothing."""
    if not text:
        return None
    found = unit.db.execute(select(User.person_id).where(User.login_key == fold_login(text))).scalar_one_or_none()
    return found or parse_uuid(text) or UUID(int=0)


def _text(key: tuple[datetime, UUID, int] | None) -> str | None:
    return f"{key[0].isoformat()}~{key[1]}~{key[2]}" if key else None
