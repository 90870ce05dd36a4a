"""Delivery: at least once, in order for each key, with growing pauses; given up after a day and kept to be seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from identity.core.ending import ending
from identity.core.errors import TesseraError
from identity.core.fetch import post_form, post_json
from identity.core.record import Actor
from identity.core.trace import trace_headers
from identity.core.unit import Unit, Units
from identity.events.models import OutboxMessage

BATCH = 64
SENDERS = 8
ATTEMPTS_MAX = 24
PAUSE_MAX_S = 3_600
# A receiver that says that the message itself is wrong will say so again; these mean "not now".
AGAIN = frozenset({408, 425, 429})

Compose = Callable[[Mapping[str, Any], datetime], Mapping[str, str]]
Mail = Callable[[str, Mapping[str, Any]], None]
# These tell of something to a program: their payload goes out as JSON.
JSON_KINDS = frozenset({"alarm"})


@dataclass(slots=True)
class Composers:
    """How the form that is sent is made of a message's payload when it is sent, by kind; the payload itself is sent
    where none is registered."""

    by_kind: dict[str, Compose] = field(default_factory=dict)
    mail: Mail | None = None
    """Sends a payload's `subject`, `text` and `file` to an address; None where no mail server is set."""

    def register(self, kind: str, compose: Compose) -> None:
        self.by_kind[kind] = compose


@dataclass(frozen=True, slots=True)
class _Due:
    id: UUID
    kind: str
    destination: str
    payload: Mapping[str, Any]
    trace: str | None


def deliver_due(units: Units, now: datetime, composers: Composers) -> int:
    """Send what is due, each receiver's messages one after the other; the number delivered.

    A receiver that is down holds up nobody else: only the first waiting message of a key is due.
    """
    actor = Actor.system("worker:outbox")
    with units.open(actor, write=False, now=now) as unit:
        due = _due(unit, now)
    if not due:
        return 0
    ended = ending()
    with ThreadPoolExecutor(min(SENDERS, len(due)), "outbox") as pool:
        outcomes = list(pool.map(lambda one: None if ended() else _post(one, now, composers), due))
    sent = [(one, *outcome) for one, outcome in zip(due, outcomes, strict=True) if outcome is not None]
    with units.open(actor, now=now) as unit:
        for one, error, final in sent:
            _note(unit, one.id, error, final=final)
    return sum(not error for _, error, _ in sent)


def _due(unit: Unit, now: datetime) -> list[_Due]:
    earlier = aliased(OutboxMessage)
    stands_before = exists().where(
        earlier.ordering_key == OutboxMessage.ordering_key,
        earlier.state == "waiting",
        earlier.id < OutboxMessage.id,
    )
    rows = unit.db.execute(
        select(OutboxMessage)
        .where(OutboxMessage.state == "waiting", OutboxMessage.next_at <= now, ~stands_before)
        .order_by(OutboxMessage.next_at)
        .limit(BATCH)
    ).scalars()
    return [_Due(row.id, row.kind, row.destination, row.payload, row.trace) for row in rows]


def _post(message: _Due, now: datetime, composers: Composers) -> tuple[str, bool]:
    """What went wrong (empty when nothing did), and whether trying again is of no use.

    An `http_notice` wants no answer: any but a fault of the receiver's says that it was heard.
    """
    compose = composers.by_kind.get(message.kind)
    address = message.destination.removeprefix("mailto:")
    try:
        if address != message.destination:
            return _mail(composers, address, message.payload), False
        if message.kind in JSON_KINDS:
            status = post_json(message.destination, message.payload, trace_headers(message.trace)).status
        else:
            form = compose(message.payload, now) if compose else message.payload
            status = post_form(message.destination, form, trace_headers(message.trace))
    except TesseraError as error:
        return error.detail or error.public, False
    if 200 <= status < 300 or (message.kind == "http_notice" and status < 500):
        return "", False
    return f"status {status}", 400 <= status < 500 and status not in AGAIN


def _mail(composers: Composers, address: str, payload: Mapping[str, Any]) -> str:
    if composers.mail is None:
        return "no mail server is set (SMTP_URL)"
    composers.mail(address, payload)
    return ""


def _note(unit: Unit, message_id: UUID, error: str, *, final: bool) -> None:
    row = unit.db.get(OutboxMessage, message_id)
    if row is None:
        return
    row.attempts += 1
    row.last_error = error or None
    if not error:
        row.state, row.delivered_at = "delivered", unit.now
    elif final or row.attempts >= ATTEMPTS_MAX:
        row.state = "failed"
    else:
        pause = min(2**row.attempts, PAUSE_MAX_S)
        row.next_at = unit.now + timedelta(seconds=pause * random.uniform(0.8, 1.2))
