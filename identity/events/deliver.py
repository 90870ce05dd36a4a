"""Delivery: at least once, in order for each key, with growing pauses; given up after a day and kept to be seen."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select

from identity.core.errors import TesseraError
from identity.core.fetch import post_form
from identity.core.record import Actor
from identity.core.unit import Units
from identity.events.models import OutboxMessage

BATCH = 50
ATTEMPTS_MAX = 24
PAUSE_MAX_S = 3_600


def deliver_due(units: Units, now: datetime) -> int:
    """Send what is due; the number delivered."""
    actor = Actor.system("worker:outbox")
    with units.open(actor, write=False, now=now) as unit:
        rows = unit.db.execute(
            select(OutboxMessage).where(OutboxMessage.state == "waiting").order_by(OutboxMessage.id).limit(BATCH)
        ).scalars()
        due = [(row.id, row.ordering_key, row.next_at, row.kind, row.destination, row.payload) for row in rows]
    delivered = 0
    waiting: set[str] = set()
    for message_id, key, next_at, kind, destination, payload in due:
        if key in waiting or next_at > now:
            waiting.add(key)
            continue
        error = _post(kind, destination, payload)
        if error:
            waiting.add(key)
        _note(units, actor, message_id, error, now)
        delivered += not error
    return delivered


def _post(kind: str, destination: str, payload: dict[str, str]) -> str:
    """What went wrong. An `http_notice` wants no answer: any but a fault of the receiver's says that it was heard."""
    try:
        status = post_form(destination, payload)
    except TesseraError as error:
        return error.detail
    heard = status < 500 if kind == "http_notice" else 200 <= status < 300
    return "" if heard else f"status {status}"


def _note(units: Units, actor: Actor, message_id: UUID, error: str, now: datetime) -> None:
    with units.open(actor, now=now) as unit:
        row = unit.db.get(OutboxMessage, message_id)
        if row is None:
            return
        row.attempts += 1
        row.last_error = error or None
        if not error:
            row.state, row.delivered_at = "delivered", now
        elif row.attempts >= ATTEMPTS_MAX:
            row.state = "failed"
        else:
            pause = min(2**row.attempts, PAUSE_MAX_S)
            row.next_at = now + timedelta(seconds=pause * random.uniform(0.8, 1.2))
