"""What a directory may still say though it was changed here: no news for a plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection, or_, select

from identity.people.models import SourceAccount, WriteBack
from identity.sync.models import SyncRun

Overtaken = Mapping[str, frozenset[str | None]]


def overtaken(connection: Connection, source_id: UUID) -> dict[str, Overtaken]:
    """By immutable id and field the values that are overtaken by one that is on its way to the directory, or came there
    while the run that is now under way may already have read."""
    found: dict[str, dict[str, frozenset[str | None]]] = defaultdict(dict)
    query = (
        select(SourceAccount.immutable_id, WriteBack.field, WriteBack.expected)
        .join(WriteBack, WriteBack.account_id == SourceAccount.id)
        .outerjoin(SyncRun, SyncRun.id == WriteBack.run_id)
        .where(
            SourceAccount.source_id == source_id,
            or_(WriteBack.state == "waiting", (WriteBack.state == "done") & (SyncRun.state == "running")),
        )
    )
    for row in connection.execute(query):
        found[row.immutable_id][row.field] = frozenset(row.expected)
    return dict(found)
