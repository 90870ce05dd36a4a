"""Serve the targets: read behind each one's position, send, and only then move the position on.

A crash between sending and moving sends again: at least once, in the order of commits. A target that fails is tried
again with growing pauses and holds up no other and no request.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import select, update

from identity.audit.sentence import sentence
from identity.audit.tail import TailReader
from identity.core.db import Database
from identity.core.ending import Ending, ending
from identity.core.errors import Invalid, TesseraError, Unavailable
from identity.core.secrets import read_secret
from identity.shipping import ecs
from identity.shipping.file import FileSender
from identity.shipping.inputs import SETTINGS
from identity.shipping.models import ShipTarget
from identity.shipping.otlp import OtlpSender
from identity.shipping.syslog import SyslogSender

BATCH = 500
BUDGET_S = 20.0
PAUSE_MAX_S = 300.0

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """A way to a target. `send` returns when the target has taken all documents, or raises `Unavailable`."""

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None: ...
    def close(self) -> None: ...


def open_sender(kind: str, settings: Mapping[str, Any], secret_ref: str | None) -> Sender:
    """The sender of a target; raises `Invalid` for settings that cannot be, or a package that is not installed."""
    try:
        parsed: Any = SETTINGS[kind].model_validate(settings)
    except ValueError as error:
        raise Invalid("The target's settings are not valid.", str(error), code="shipping_settings") from None
    secret = read_secret(secret_ref) if secret_ref else ""
    if kind == "file":
        return FileSender(parsed)
    if kind == "syslog":
        return SyslogSender(parsed)
    if kind == "otlp":
        return OtlpSender(parsed, secret)
    module, name = {"kafka": ("kafka", "KafkaSender"), "rabbitmq": ("rabbitmq", "RabbitSender")}[kind]
    try:
        made: Sender = getattr(importlib.import_module(f"identity.shipping.{module}"), name)(parsed, secret)
    except ImportError:
        raise Invalid(f"Install the package for {kind}: pip install tessera[{kind}].", code="not_installed") from None
    return made


@dataclass(slots=True)
class _Open:
    sender: Sender
    made_from: tuple[Any, ...]
    failures: int = 0
    next_at: float = 0.0


class Shipper:
    """Serves every enabled target once at each `run`; keeps their connections between runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[UUID, _Open] = {}

    def run(self, now: datetime) -> None:
        """Send what is new, each target on a thread of its own; returns when all have been served or have failed."""
        with self._database.read() as connection:
            targets = connection.execute(select(ShipTarget.__table__).where(ShipTarget.enabled)).all()
        for gone in self._open.keys() - {target.id for target in targets}:
            self._open.pop(gone).sender.close()
        ended = ending()
        threads = [threading.Thread(target=self._serve, args=(target, now, ended)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        for one in self._open.values():
            one.sender.close()

    def _serve(self, target: Any, now: datetime, ended: Ending) -> None:
        made_from = (target.kind, target.settings, target.secret_ref)
        known = self._open.get(target.id)
        if known is not None and known.made_from != made_from:
            known.sender.close()
            known = None
        if known is not None and time.monotonic() < known.next_at:
            return
        try:
            if known is None:
                known = self._open[target.id] = _Open(open_sender(*made_from), made_from)
            self._ship(target, known.sender, ended)
            known.failures, known.next_at = 0, 0.0
        except TesseraError as error:
            if known is not None:
                known.failures += 1
                known.next_at = time.monotonic() + min(2.0**known.failures, PAUSE_MAX_S)
            self._failed(target, error, now)

    def _ship(self, target: Any, sender: Sender, ended: Ending) -> None:
        position, until, reader = target.position, time.monotonic() + BUDGET_S, TailReader(BATCH)
        while time.monotonic() < until and not ended():
            with self._database.read() as connection:
                tail = reader.read(connection, position, datetime.now(UTC))
            if tail.rows:
                bodies = [orjson.loads(row.body) for row in tail.rows]
                sender.send([ecs.document(body, sentence(body)) for body in bodies])
            if tail.rows or target.failing_since is not None:
                self._taken(target, tail.position, len(tail.rows), tail.complete_to)
            position = tail.position
            if not tail.more:
                return

    def _taken(self, target: Any, position: int, count: int, complete_to: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(ShipTarget)
                .where(ShipTarget.id == target.id)
                .values(
                    position=position,
                    shipped=ShipTarget.shipped + count,
                    shipped_to=complete_to,
                    failing_since=None,
                    last_error=None,
                )
            )

    def _failed(self, target: Any, error: TesseraError, now: datetime) -> None:
        _log.warning("shipping to %s: %s", target.code, error)
        try:
            with self._database.write() as connection:
                connection.execute(
                    update(ShipTarget)
                    .where(ShipTarget.id == target.id)
                    .values(failing_since=target.failing_since or now, last_error=str(error)[:500])
                )
        except Unavailable as gone:
            _log.warning("shipping to %s: %s", target.code, gone)
