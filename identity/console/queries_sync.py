"""Read-only queries of the directory pages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, or_, select

from identity.directory.models import DirectorySource
from identity.login.models import LoginSession
from identity.people.models import PersonProfile, SourceAccount, User, WriteBack
from identity.sync.models import SyncChange, SyncState

PAGE = 100


def states(connection: Connection) -> dict[str, Any]:
    """How far each directory is, and the number of its accounts, by code."""
    accounts = select(SourceAccount.source_id, func.count().label("n")).group_by(SourceAccount.source_id).subquery()
    query = (
        select(
            *(DirectorySource.code, SyncState.success_at, SyncState.failures, SyncState.paused, SyncState.compared_at),
            accounts.c.n.label("accounts"),
        )
        .outerjoin(SyncState, SyncState.source_id == DirectorySource.id)
        .outerjoin(accounts, accounts.c.source_id == DirectorySource.id)
    )
    return {row.code: row for row in connection.execute(query)}


def write_back_counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many values wait for each directory, and how many were not written, by code and state."""
    query = (
        select(DirectorySource.code, WriteBack.state, func.count())
        .join(SourceAccount, SourceAccount.source_id == DirectorySource.id)
        .join(WriteBack, WriteBack.account_id == SourceAccount.id)
        .where(WriteBack.state != "done")
        .group_by(DirectorySource.code, WriteBack.state)
    )
    found: dict[str, dict[str, int]] = {}
    for code, state, count in connection.execute(query):
        found.setdefault(code, {})[state] = count
    return found


def write_back_items(connection: Connection, source_id: UUID, after: UUID | None) -> Sequence[Any]:
    """A page of the values that wait for a directory or were not written, the oldest first."""
    query = (
        select(WriteBack.__table__, SourceAccount.user_id, User.login, PersonProfile.name)
        .join(SourceAccount, SourceAccount.id == WriteBack.account_id)
        .join(User, User.id == SourceAccount.user_id)
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .where(SourceAccount.source_id == source_id, WriteBack.state != "done")
    )
    if after is not None:
        query = query.where(WriteBack.id > after)
    return connection.execute(query.order_by(WriteBack.id).limit(PAGE + 1)).all()


def changes(connection: Connection, run_id: UUID, kind: str, text: str, after: int) -> Sequence[Any]:
    """A page of a run's changes of this kind (or `failed`, or all) whose title contains `text`."""
    query = select(SyncChange.__table__).where(SyncChange.run_id == run_id, SyncChange.seq > after)
    if kind == "failed":
        query = query.where(SyncChange.error.is_not(None))
    elif kind:
        query = query.where(SyncChange.kind == kind)
    if text:
        query = query.where(or_(SyncChange.title.contains(text, autoescape=True), SyncChange.immutable_id == text))
    return connection.execute(query.order_by(SyncChange.seq).limit(PAGE + 1)).all()


def sessions_ending(connection: Connection, run_id: UUID, source_id: UUID, now: datetime) -> int:
    """Live sessions of those whom the plan disables."""
    query = (
        select(func.count())
        .select_from(SyncChange)
        .join(SourceAccount, SourceAccount.immutable_id == SyncChange.immutable_id)
        .join(LoginSession, LoginSession.user_id == SourceAccount.user_id)
        .where(
            SyncChange.run_id == run_id,
            SyncChange.kind == "user_disable",
            SourceAccount.source_id == source_id,
            LoginSession.ended_at.is_(None),
            LoginSession.expires_at > now,
        )
    )
    return connection.execute(query).scalar_one()


def plan_csv(connection: Connection, run_id: UUID) -> str:
    """The whole plan, a line each change; a cell never begins like a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["kind", "entry", "title", "reason", "before", "after", "error"])
    query = select(SyncChange.__table__).where(SyncChange.run_id == run_id).order_by(SyncChange.seq)
    for row in connection.execute(query):
        cells = [
            row.kind,
            row.immutable_id,
            row.title,
            row.reason,
            _json(row.before),
            _json(row.after),
            row.error or "",
        ]
        writer.writerow([f"'{cell}" if cell[:1] in "=+-@\t\r" else cell for cell in cells])
    return out.getvalue()


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True) if values else ""
