"""The outbox: a message is a row, written with the act that causes it."""

from __future__ import annotations

from typing import Any

from identity.core.unit import Unit
from identity.events.models import OutboxMessage


def send(unit: Unit, kind: str, destination: str, payload: dict[str, Any], ordering_key: str) -> None:
    """Deliver this after the commit, in order with the other messages of `ordering_key`."""
    unit.db.add(
        OutboxMessage(
            kind=kind,
            destination=destination,
            ordering_key=ordering_key,
            payload=payload,
            trace=unit.origin.trace or None,
            next_at=unit.now,
            created_at=unit.now,
        )
    )
