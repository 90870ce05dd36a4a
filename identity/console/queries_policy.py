"""Read-only queries about policy versions and drafts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.console import SECURITY_ADMIN
from identity.access.snapshot import Snapshot
from identity.console.queries import PAGE
from identity.core.facts import FactRevision
from identity.core.unit import Unit
from identity.roles import draft_rows
from identity.roles.inputs import RuleSetInput
from identity.roles.models import PolicyInForce, PolicyVersion
from identity.roles.models_drafts import PolicyDraft
from identity.roles.summary import summary


def history(connection: Connection, before: int | None) -> Sequence[Any]:
    """A page of what was in force when, newest first, behind the facts revision `before`; one row too many when more
    follow."""
    query = (
        select(
            PolicyInForce.version,
            PolicyInForce.rev_from,
            PolicyInForce.rev_until,
            FactRevision.at,
            PolicyVersion.note,
            PolicyVersion.created_by,
            PolicyVersion.based_on,
            PolicyDraft.restores,
        )
        .join(PolicyVersion, PolicyVersion.version == PolicyInForce.version)
        .join(FactRevision, FactRevision.revision == PolicyInForce.rev_from)
        .outerjoin(PolicyDraft, PolicyDraft.version == PolicyInForce.version)
        .order_by(PolicyInForce.rev_from.desc())
        .limit(PAGE + 1)
    )
    if before is not None:
        query = query.where(PolicyInForce.rev_from < before)
    return connection.execute(query).all()


def drafts(unit: Unit) -> list[PolicyDraft]:
    """The drafts that are being written or wait, newest first."""
    query = select(PolicyDraft).where(PolicyDraft.state.in_(("editing", "proposed")))
    return list(unit.db.execute(query.order_by(PolicyDraft.created_at.desc()).limit(200)).scalars())


def versions(connection: Connection) -> list[Any]:
    """Every version that was in force, and open drafts, newest first: (version, title, state)."""
    query = (
        select(PolicyVersion.version, PolicyVersion.note, PolicyVersion.state, PolicyDraft.state.label("draft"))
        .outerjoin(PolicyDraft, PolicyDraft.version == PolicyVersion.version)
        .order_by(PolicyVersion.version.desc())
        .limit(500)
    )
    return [
        row for row in connection.execute(query) if row.state == "published" or row.draft in {"editing", "proposed"}
    ]


def lines(old: RuleSetInput, new: RuleSetInput) -> list[tuple[str, str, str, str]]:
    """(part, sign, id, text) of each rule that `new` adds or takes away, what is taken away first."""
    found = []
    for delta in draft_rows.deltas(old, new):
        found += [(delta.part, "-", key, summary(row)) for key, row in delta.removed.items()]
        found += [(delta.part, "+", key, summary(row)) for key, row in delta.added.items()]
    return found


def others_who_may_publish(snapshot: Snapshot, writers: Iterable[UUID | str | None], now: datetime) -> int:
    """How many other persons could approve: active security administrators who wrote nothing of it."""
    persons = {
        str(one.person_id)
        for one in snapshot.users.values()
        if any(grant.grant.role == SECURITY_ADMIN for grant in one.derivations)
        and snapshot.is_active(one.id, now)
        and SECURITY_ADMIN in snapshot.engine.roles_of(one.subject, now)
    }
    return len(persons - set(map(str, writers)))


def draft_of(unit: Unit, version: int) -> PolicyDraft | None:
    """The draft whose rules this version holds."""
    return unit.db.execute(select(PolicyDraft).where(PolicyDraft.version == version)).scalar_one_or_none()
