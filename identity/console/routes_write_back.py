"""Names and contacts changed in the console, and what of them goes back to directories."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.console import profile, queries_sync
from identity.console.routes_people import paging, reason_given
from identity.core.errors import Invalid
from identity.core.hot import parse_uuid
from identity.core.web import open_unit, permission, redirect_to
from identity.directory.service import choose_write_back
from identity.directory.settings import DirectorySettings
from identity.directory.writable import WRITABLE, why_not, written_fields
from identity.people.service import update_profile
from identity.sync.work import find_source
from identity.sync.write_back import drop, retry

bp = Blueprint("write_back", __name__)


@bp.post("/admin/users/<uuid:user_id>/profile")
@permission("write", "user", fresh=True)
def user_profile(user_id: UUID) -> Response:
    """Change names and contacts; what a directory says goes there, where it lets us."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        unit.require("write", "user", str(user_id))
        update_profile(unit, user_id, profile.wanted(unit, user_id, request.form))
    return redirect_to(f"/admin/users/{user_id}")


@bp.get("/admin/sync/<code>/write-back")
@permission("read", "sync")
def write_back(code: str) -> Response:
    """Which fields are written to a directory, the rights that this needs, and what waits or was not written."""
    after = parse_uuid(request.args.get("after", ""))
    with open_unit(write=False) as unit:
        source = find_source(unit, code)
        settings = DirectorySettings.load(source.kind, source.settings)
        rows = queries_sync.write_back_items(unit.db.connection(), source.id, after)
    faults = {one: why_not(settings, one) for one in WRITABLE}
    written = written_fields(settings, source.write_back)
    return make_response(
        render_template(
            "console/sync_write_back.html",
            source=source,
            settings=settings,
            faults=faults,
            written=written,
            attributes=[getattr(settings.attributes, one) for one in WRITABLE if one in (written or faults)],
            rows=rows[: queries_sync.PAGE],
            paging=paging(str(rows[queries_sync.PAGE - 1].id) if len(rows) > queries_sync.PAGE else None),
        )
    )


@bp.post("/admin/sync/<code>/write-back")
@permission("write", "directory", fresh=True)
def write_back_choose(code: str) -> Response:
    """Choose the fields that are written back."""
    why, reference = reason_given()
    with open_unit(reason=why, reference=reference) as unit:
        choose_write_back(unit, code, request.form.getlist("fields"))
    return redirect_to(f"/admin/sync/{code}/write-back")


@bp.post("/admin/sync/<code>/write-back/<uuid:item_id>")
@permission("run", "sync")
def write_back_item(code: str, item_id: UUID) -> Response:
    """Write a value after all that could not be written, or drop it."""
    (why, reference), act = reason_given(), {"retry": retry, "drop": drop}.get(request.form.get("act", ""))
    if act is None:
        raise Invalid("The form is not complete.", code="form")
    with open_unit(reason=why, reference=reference) as unit:
        act(unit, code, item_id)
    return redirect_to(f"/admin/sync/{code}/write-back")
