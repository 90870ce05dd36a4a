"""Who had what on a day."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.past import Past
from identity.apps.registry import Registry
from identity.audit import csv
from identity.console import present, queries
from identity.console.inputs import whole_number
from identity.console.routes_people import paging
from identity.console.routes_reports import export_place
from identity.core.errors import Invalid, NotFound
from identity.core.i18n import gettext as _
from identity.core.settings import Settings
from identity.core.web import csv_response, open_unit, permission, request_now, use
from identity.reports.holdings import person_names
from identity.reports.lookup import COLUMNS, Asked, Holding, line, look_up, parse_date
from identity.roles.mapping import BUSINESS

bp = Blueprint("holdings", __name__)


@bp.get("/admin/holdings")
@permission("read", "role")
def holdings() -> Response:
    """Who held which role at the end of a day, a page at a time; nothing before a day is chosen."""
    error, past = None, None
    rows: list[Holding] = []
    names, titles = {}, {}
    first = whole_number(request.args.get("after", "")) or 0
    try:
        asked = _asked()
        if asked is not None:
            with export_place(), open_unit() as unit:
                past, rows = look_up(unit, asked, use(Settings).zone)
                connection = unit.db.connection()
                names = queries.names(connection, {one.person_id for one in rows[first : first + queries.PAGE]})
                titles = queries.role_titles(connection)
    except (Invalid, NotFound) as found:
        error = _(found.public)
    return make_response(
        render_template(
            "console/holdings.html",
            past=past,
            error=error,
            rows=[(one, names.get(one.person_id, "")) for one in rows[first : first + queries.PAGE]],
            total=len(rows),
            users=len({one.user_id for one in rows}),
            titles=titles,
            grant_text=present.grant_text,
            origin=lambda one: present.origin(one.steps, one.grant.role),
            places=[BUSINESS, *sorted(use(Registry).current().by_code)],
            by_code=use(Registry).current().by_code,
            today=request_now().astimezone(use(Settings).zone).date().isoformat(),
            args=request.args,
            paging=paging(str(first + queries.PAGE) if len(rows) > first + queries.PAGE else None),
        ),
        400 if error else 200,
    )


@bp.get("/admin/holdings/file")
@permission("read", "role", fresh=True)
def holdings_file() -> Response:
    """All of it as CSV."""
    asked, zone = _asked(), use(Settings).zone
    if asked is None:
        raise Invalid("Please choose a day.", code="date")
    with export_place(), open_unit() as unit:
        past, rows = look_up(unit, asked, zone)
        names = person_names(unit.db.connection())
    content = "".join(csv.lines([_(one) for one in COLUMNS], (line(one, names) for one in rows), zone))
    return csv_response(content, f"holdings-{asked.day.isoformat()}{_suffix(past)}")


def _suffix(past: Past) -> str:
    return "-as-known-today" if past.as_known_today else ""


def _asked() -> Asked | None:
    args = request.args
    if not args.get("at"):
        return None
    return Asked(
        parse_date(args["at"][:10]),
        args.get("person", "").strip()[:128],
        args.get("application", "")[:64],
        args.get("role", "").strip()[:200],
        as_known_today=args.get("known") == "today",
    )
