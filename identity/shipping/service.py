"""Shipping targets: made, changed, put out of use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.rows import set_values
from identity.core.unit import Unit
from identity.shipping.inputs import TargetInput
from identity.shipping.models import ShipTarget


def put_target(unit: Unit, wanted: TargetInput, *, managed_by: str = "console") -> ShipTarget:
    """The target with this code is as given; a new one is served from the first record on."""
    unit.require("write", "setting", f"shipping/{wanted.code}")
    row = unit.db.execute(select(ShipTarget).where(ShipTarget.code == wanted.code)).scalar_one_or_none()
    values: dict[str, Any] = {
        "kind": wanted.kind,
        "settings": dict(wanted.settings),
        "secret_ref": wanted.secret,
        "enabled": wanted.enabled,
        "managed_by": managed_by,
    }
    if row is None:
        row = ShipTarget(code=wanted.code, created_at=unit.now, **values)
        unit.db.add(row)
        _changed(unit, wanted.code, None, values)
        return row
    before = set_values(row, values)
    if before:
        _changed(unit, wanted.code, before, {name: values[name] for name in before})
    return row


def _changed(unit: Unit, code: str, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    unit.record(
        Record(
            kind=Kind.SHIPPING_CHANGED,
            result="success",
            resource_type="shipping",
            resource_id=code,
            before=before,
            after=after,
        )
    )
