"""The sealer's side of retention: it signs what may go, and only what it has seen whole, sealed and old enough."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, exists, insert, select

from identity.audit import bulk, merkle
from identity.audit.models import AuditPurge, AuditTombstone
from identity.audit.note import HeadSigner, Tombstone, sign_note
from identity.core.db import from_micros, to_micros

FLOOR_DAYS = 183

_log = logging.getLogger(__name__)


def asked(connection: Connection) -> list[Any]:
    """The purges that retention asks for and that have no tombstone yet."""
    stone = exists().where(
        AuditTombstone.retention_class == AuditPurge.retention_class, AuditTombstone.from_at == AuditPurge.from_at
    )
    return list(connection.execute(select(AuditPurge.__table__).where(AuditPurge.purged_at.is_(None), ~stone)))


def make_tombstone(
    connection: Connection, purge: Any, origin: str, days: int, now: datetime
) -> tuple[Tombstone | None, str]:
    """The tombstone of a purge, or None with why it is refused.

    `days` is the sealer's own retention, whatever the database says; never under six months. Every record of the range
    must be under its leaf, unchanged: a forger could otherwise have what he changed carried away.
    """
    name, low, high = purge._mapping["class"], to_micros(purge.from_at), to_micros(purge.until_at)
    if purge.until_at > now - timedelta(days=max(days, FLOOR_DAYS)):
        return None, "it is not old enough"
    frontier, first, last = merkle.Frontier(), None, -1
    sealed: dict[bytes, bytes] = {}
    for seq, record_id, digest in bulk.leaves_of(connection, name, low, high):
        first = seq if first is None else first
        last = seq
        frontier.append(digest)
        if record_id in sealed:
            return None, f"record {record_id.hex()} is sealed twice"
        sealed[record_id] = digest
    for _, record_id, body, _ in bulk.records_between(connection, (name,), low, high):
        if sealed.pop(record_id, None) != merkle.leaf_hash(body):
            return None, f"record {record_id.hex()} is not what was sealed"
    if sealed or first is None:
        return None, f"{len(sealed)} records are missing" if sealed else "there is nothing"
    start, end = from_micros(low), from_micros(high)
    count, root = frontier.size, frontier.root()
    return Tombstone(origin, name, start, end, first, last, count, root, now, purge.reason), ""


def store(connection: Connection, stone: Tombstone, signers: Sequence[HeadSigner]) -> str:
    """Keep the signed tombstone; its note."""
    note = sign_note(stone.text, signers)
    connection.execute(
        insert(AuditTombstone).values(
            retention_class=stone.retention_class, from_at=stone.from_at, at=stone.at, note=note
        )
    )
    return note


def refuse(purge: Any, why: str) -> None:
    """Say why a purge gets no tombstone; it stays asked for."""
    _log.error("no tombstone for %s from %s: %s", purge._mapping["class"], purge.from_at.isoformat(), why)
