"""The auditor's evidence packs: asked for from a search, made by the worker, downloaded and checked without us."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast
from uuid import UUID

from flask import Blueprint, make_response, render_template, request, send_file
from werkzeug.wrappers import Response

from identity.audit import packs
from identity.audit.saved import FIELDS
from identity.console.routes_audit import filter_of
from identity.console.routes_people import reason_given
from identity.console.routes_reports import MEMORY_MAX, export_place
from identity.core.errors import NotFound
from identity.core.settings import Settings
from identity.core.web import open_unit, permission, redirect_to, use
from identity.keys.keyring import Keyring
from identity.keys.seal import evidence_key, published_keys

bp = Blueprint("evidence", __name__)

VERIFIER = Path(__file__).resolve().parents[2] / "examples" / "verify_evidence.py"


@bp.get("/admin/audit/evidence")
@permission("export", "audit")
def evidence() -> Response:
    """The packs that were asked for lately, and how somebody checks one."""
    settings = use(Settings)
    with open_unit(write=False) as unit:
        rows = packs.latest(unit)
    verifier = hashlib.sha256(VERIFIER.read_bytes()).hexdigest() if VERIFIER.exists() else ""
    return make_response(
        render_template(
            "console/evidence.html",
            packs=rows,
            waits=any(one.state == "queued" for one in rows),
            kept_days=packs.KEPT_DAYS,
            sealer=published_keys(settings),
            signer=evidence_key(settings, use(Keyring)).key,
            verifier=verifier,
        )
    )


@bp.post("/admin/audit/evidence")
@permission("export", "audit", fresh=True)
def ask() -> Response:
    """Ask for a pack of what the search finds."""
    why, reference = reason_given()
    # The search's fields have a name of their own here: one of them is called `reason` too.
    fields = {name: request.form.get(f"find_{name}", "")[:512] for name in sorted(FIELDS)}
    form = {name: value for name, value in fields.items() if value}
    with open_unit(reason=why, reference=reference) as unit:
        wanted = filter_of(unit, form, use(Settings).zone)
        packs.ask(unit, form, wanted, personal=request.form.get("personal") == "yes")
    return redirect_to("/admin/audit/evidence")


@bp.get("/admin/audit/evidence/<uuid:pack_id>/file")
@permission("export", "audit", fresh=True)
def file(pack_id: UUID) -> Response:
    """A pack as a zip file."""
    with ExitStack() as on_failure:
        out = cast(BinaryIO, on_failure.enter_context(SpooledTemporaryFile(MEMORY_MAX)))
        with export_place(), open_unit() as unit:
            pack, pieces = packs.read(unit, pack_id)
            for piece in pieces:
                out.write(piece)
        on_failure.pop_all()
    out.seek(0)
    name = f"evidence-{pack.asked_at:%Y%m%d-%H%M}-{str(pack.id)[-6:]}.zip"
    response = send_file(out, "application/zip", as_attachment=True, download_name=name)
    response.headers["Digest"] = f"sha-256={pack.sha256}"
    return response


@bp.get("/admin/audit/evidence/verifier")
@permission("export", "audit")
def verifier() -> Response:
    """The stand-alone verifier: one Python file without our code."""
    if not VERIFIER.exists():
        raise NotFound("The verifier is not installed beside this server.")
    response = make_response(VERIFIER.read_bytes())
    response.headers["Content-Type"] = "text/x-python; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="{VERIFIER.name}"'
    return response
