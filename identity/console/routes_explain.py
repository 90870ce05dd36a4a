"""Why somebody may or may not do something: of a record, or of a question that is put now. Reading it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import Connection, select
from werkzeug.wrappers import Response

from identity.access import ask
from identity.access.decide import Access
from identity.access.explain import Explanation, explain, explain_record, read_record
from identity.apps.registry import Registry
from identity.console import present_explain, queries
from identity.console.inputs import whole_number
from identity.core.errors import Invalid, NotFound
from identity.core.i18n import gettext as _
from identity.core.web import open_unit, permission, use
from identity.directory.models import DirectorySource
from identity.people.models import Group, OrgUnit, Position

bp = Blueprint("explain", __name__)


@bp.get("/admin/explain")
@permission("read", "decision")
def asked() -> Response:
    """A question that is put now, and its explanation."""
    args = request.args
    error = ""
    shown: dict[str, Any] = {"found": None}
    if any(args.get(name) for name in ask.FIELDS):
        try:
            with open_unit(write=False) as unit:
                connection = unit.db.connection()
                found = explain(connection, ask.put(connection, use(Access), args, unit.now))
                shown = _shown(connection, found)
                unit.record(read_record(found))
        except Invalid as fault:
            error = _(fault.public)
    content = use(Access).snapshot().content
    return make_response(
        render_template(
            "console/explain.html",
            args=args,
            error=error,
            apps=sorted(use(Registry).current().by_code.values(), key=lambda one: one.code),
            actions=sorted({one.action for one in content.permissions}),
            types=sorted({one.type for one in content.permissions}),
            **shown,
        ),
        400 if error else 200,
    )


@bp.get("/admin/audit/<uuid:record_id>/why")
@permission("read", "audit")
def recorded(record_id: UUID) -> Response:
    """A recorded decision, made again from what it was made from then."""
    number = whole_number(request.args.get("item", ""))
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        found = explain_record(connection, record_id, number)
        if found is None:
            raise NotFound("There is no such decision, or it cannot be found yet.")
        shown = _shown(connection, found)
        unit.record(read_record(found))
    return make_response(render_template("console/explain.html", args={}, record=record_id, **shown))


def _shown(connection: Connection, found: Explanation) -> dict[str, Any]:
    """What the template draws."""
    named = present_explain.groups_of(found)
    persons = queries.names(connection, present_explain.persons_of(found))
    known = present_explain.Known(
        titles=queries.role_titles(connection),
        groups=queries.group_ids(connection, named),
        sources=_directories(connection, named),
        persons=persons,
        units=_places(connection),
    )
    ways = [present_explain.told(found, one, known) for one in found.ways]
    return {
        "found": found,
        "app": use(Registry).current().application(found.request.application),
        "name": persons.get(found.user.person_id, found.user.login) if found.user else "",
        # The first decisive way is the picture; the rest folds below it.
        "decisive": ways[0] if ways and ways[0].way.decisive else None,
        "others": ways[1:] if ways and ways[0].way.decisive else ways,
        "lacking": present_explain.lacking(found),
        "duties": present_explain.duties(found, persons),
        "stated": present_explain.stated(found),
        "known": known,
    }


def _directories(connection: Connection, names: list[str]) -> Mapping[str, str]:
    """Group → the name of the directory that it comes from."""
    rows = connection.execute(
        select(Group.name, DirectorySource.name)
        .join(DirectorySource, DirectorySource.id == Group.source_id)
        .where(Group.name.in_(names))
    )
    return dict(rows.all())


def _places(connection: Connection) -> Mapping[str, str]:
    """Names of units and positions by code."""
    return {
        code: name for table in (OrgUnit, Position) for code, name in connection.execute(select(table.code, table.name))
    }
