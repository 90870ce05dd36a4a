"""The auditor's pages of the proof: sealed and anchored to when, the heads, and the proof of one record."""

from __future__ import annotations

from uuid import UUID

import orjson
from flask import Blueprint, make_response, render_template
from werkzeug.wrappers import Response

from identity.audit import proofs
from identity.audit.kinds import Kind
from identity.audit.status import proof_status
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.web import open_unit, permission, request_now, use
from identity.keys.seal import published_keys

bp = Blueprint("proof", __name__)


@bp.get("/admin/audit/proof")
@permission("read", "audit")
def overview() -> Response:
    """Sealed to, anchored to, the gap, the newest heads, and the keys by which others check them."""
    settings = use(Settings)
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        status, heads = proof_status(connection), proofs.heads(connection)
        restored = proofs.restorations(connection)
    gap_s = status.gap_s(request_now())
    return make_response(
        render_template(
            "console/proof.html",
            status=status,
            heads=heads,
            restored=restored,
            gap_s=round(gap_s),
            late=gap_s > settings.audit_gap_s,
            keys=published_keys(settings),
        )
    )


@bp.get("/admin/audit/<uuid:record_id>/proof")
@permission("read", "audit")
def of_record(record_id: UUID) -> Response:
    """The inclusion proof of one record under the widest anchored head."""
    with open_unit(write=False) as unit:
        connection = unit.db.connection()
        head, note = proofs.head_of(connection)
        proof = proofs.inclusion(connection, record_id, head.size)
        unit.record(Record(kind=Kind.AUDIT_READ, result="success", resource_type="proof", resource_id=str(record_id)))
    shown = orjson.dumps(proof.wire, option=orjson.OPT_INDENT_2).decode()
    return make_response(render_template("console/proof_record.html", proof=proof, head=head, note=note, shown=shown))
