"""The auditor's pages; reading the record is recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.apps.registry import Registry
from identity.audit import query
from identity.audit.kinds import SENTENCES, Kind
from identity.console import queries
from identity.core.errors import Invalid, NotFound
from identity.core.hot import parse_uuid
from identity.core.i18n import gettext
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.web import open_unit, permission, use
from identity.people.inputs import fold_login
from identity.people.models import User

bp = Blueprint("audit", __name__)


@bp.get("/admin/audit")
@permission("read", "audit")
def search() -> Response:
    """Search the record."""
    args = request.args
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        person = _person(unit, args.get("person", ""))
        wanted = query.Filter(
            person=person,
            application=args.get("application") or None,
            resource_id=args.get("object") or None,
            kind=args.get("kind") or None,
            result=args.get("result") or None,
            reason=args.get("reason") or None,
            request_id=args.get("request_id") or None,
            since=_day(args.get("since", "")),
            until=_day(args.get("until", ""), end=True),
            text=args.get("q", "")[:200] or None,
        )
        page = query.search(connection, wanted, _key(args.get("after", "")))
        shown = {name: value for name, value in args.items() if value and name != "after"}
        unit.record(Record(kind=Kind.AUDIT_SEARCHED, result="success", data={"filter": shown, "rows": len(page.rows)}))
        names = _names(connection, page.rows)
    return make_response(
        render_template(
            "console/audit.html",
            rows=[(row, sentence(row, names)) for row in page.rows],
            next=_text(page.next),
            complete_to=page.complete_to,
            kinds=list(Kind),
            apps=sorted(use(Registry).current().by_code),
            args=args,
            query={name: value for name, value in args.items() if name != "after"},
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
    body = orjson.dumps(row.body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return make_response(
        render_template("console/audit_record.html", row=row, sentence=sentence(row, names), body=body)
    )


def sentence(row: query.Row, names: dict[UUID, str]) -> str:
    """What happened, in the reader's language."""
    body, data = row.body, row.body.get("data", {})
    person = parse_uuid(str(body.get("person", "")))
    words: dict[str, Any] = {
        "actor": body.get("actor", {}).get("name") or gettext("somebody"),
        "person": names.get(person) if person else None,
        "application": row.application,
        "action": row.action,
        "resource": " ".join(filter(None, (row.resource_type, row.resource_id))),
        "login": data.get("login"),
        "group": data.get("group"),
    }
    template = SENTENCES.get(row.kind, row.kind)  # type: ignore[call-overload]
    return gettext(template).format_map({name: value or gettext("somebody") for name, value in words.items()})


def _names(connection: Any, rows: Any) -> dict[UUID, str]:
    persons = {parse_uuid(str(row.body.get("person", ""))) for row in rows} - {None}
    return queries.names(connection, persons)  # type: ignore[arg-type]


def _person(unit: Any, text: str) -> UUID | None:
    """A person by login or id; an unknown one finds nothing."""
    if not text:
        return None
    found = unit.db.execute(select(User.person_id).where(User.login_key == fold_login(text))).scalar_one_or_none()
    return found or parse_uuid(text) or UUID(int=0)


def _day(text: str, *, end: bool = False) -> datetime | None:
    """A date in the organisation's zone; as an end it is the end of that day."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=use(Settings).zone)
    except ValueError:
        raise Invalid("A date is written as 2026-12-31.", code="date") from None
    return day + timedelta(days=1) if end else day


def _key(text: str) -> tuple[datetime, UUID, int] | None:
    if not text:
        return None
    parts = text.split("~")
    record_id = parse_uuid(parts[1]) if len(parts) == 3 else None
    try:
        if record_id is None:
            raise ValueError
        return datetime.fromisoformat(parts[0]), record_id, int(parts[2])
    except ValueError:
        raise Invalid("This page does not exist.", code="page_key") from None


def _text(key: tuple[datetime, UUID, int] | None) -> str | None:
    return f"{key[0].isoformat()}~{key[1]}~{key[2]}" if key else None
