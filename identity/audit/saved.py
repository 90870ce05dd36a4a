"""Searches under a name."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import or_, select

from identity.audit.kinds import Kind
from identity.audit.models import SavedSearch
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from identity.core.unit import Unit

FIELDS = frozenset(
    {"q", "person", "application", "object", "kind", "result", "reason", "request_id", "since", "until", "own"}
)
NAME_MAX = 100


def saved_searches(unit: Unit) -> list[SavedSearch]:
    """The actor's own and the shared ones, by name."""
    mine = or_(SavedSearch.owner_id == unit.actor.user, SavedSearch.shared)
    return list(unit.db.execute(select(SavedSearch).where(mine).order_by(SavedSearch.name)).scalars())


def save_search(unit: Unit, name: str, query: Mapping[str, str], *, shared: bool) -> SavedSearch:
    """The actor's search of this name is as given; raises `Invalid` for an empty name or search."""
    unit.require("read", "audit", "saved")
    kept = {field: value[:512] for field, value in query.items() if field in FIELDS and value}
    name = name.strip()
    if not name or len(name) > NAME_MAX or not kept or unit.actor.user is None:
        raise Invalid("A saved search needs a name and something to look for.", code="saved_search")
    row = unit.db.execute(
        select(SavedSearch).where(SavedSearch.owner_id == unit.actor.user, SavedSearch.name == name)
    ).scalar_one_or_none()
    if row is None:
        row = SavedSearch(owner_id=unit.actor.user, name=name, created_at=unit.now)
        unit.db.add(row)
    row.query, row.shared = kept, shared
    _record(unit, "saved", name, kept)
    return row


def forget_search(unit: Unit, search_id: UUID) -> None:
    """The actor's own search is gone; raises `NotFound` for another's."""
    unit.require("read", "audit", "saved")
    row = unit.db.get(SavedSearch, search_id)
    if row is None or row.owner_id != unit.actor.user:
        raise NotFound("There is no such saved search of yours.")
    unit.db.delete(row)
    _record(unit, "forgotten", row.name, row.query)


def _record(unit: Unit, what: str, name: str, query: Mapping[str, str]) -> None:
    data = {"what": what, "query": dict(query)}
    unit.record(
        Record(kind=Kind.SEARCH_SAVED, result="success", resource_type="saved_search", resource_id=name, data=data)
    )
