"""Shipping targets: made, changed, put out of use."""

from __future__ import annotations

from typing import Any

from identity.audit.kinds import Kind
from identity.core.rows import put_recorded
from identity.core.unit import Unit
from identity.shipping.inputs import TargetInput
from identity.shipping.models import ShipTarget


def put_target(unit: Unit, wanted: TargetInput, *, managed_by: str = "console") -> ShipTarget:
    """The target with this code is as given; a new one is served from the first record on."""
    unit.require("write", "setting", f"shipping/{wanted.code}")
    values: dict[str, Any] = {
        "kind": wanted.kind,
        "settings": dict(wanted.settings),
        "secret_ref": wanted.secret,
        "enabled": wanted.enabled,
        "managed_by": managed_by,
    }
    return put_recorded(unit, ShipTarget, wanted.code, values, kind=Kind.SHIPPING_CHANGED, resource_type="shipping")
