"""Who has the say about a field of a profile, and what of it goes back to a directory: queued in the changer's Unit.

The master of a field is the source that sync takes it from: of those that say it the one with the lowest precedence
number; where none says it, of those that could the first that lets us write. What a master does not let us write is
changed there and not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select

from identity.core.errors import Conflict
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.directory.settings import DirectorySettings
from identity.directory.writable import WRITABLE, written_fields
from identity.people.models import SourceAccount, User, WriteBack


@dataclass(frozen=True, slots=True)
class Master:
    """The source that says a field, by code and name; `writes` = a change made here goes there."""

    account_id: UUID
    code: str
    name: str
    writes: bool


def masters(unit: Unit, user_id: UUID) -> dict[str, Master]:
    """The master of each writable field of the identity's person that has one. Sources out of use have no say."""
    rows = _accounts(unit, user_id)
    settings = {row.code: DirectorySettings.load(row.kind, row.settings) for row in rows}
    found: dict[str, Master] = {}
    for field in WRITABLE:
        able = [row for row in rows if _maps(settings[row.code], field)]
        said = [row for row in able if (row.seen or {}).get(field) is not None]
        ranked = [
            Master(
                row.id,
                row.code,
                row.name,
                writes=row.status == "present" and field in written_fields(settings[row.code], row.write_back),
            )
            for row in said or able
        ]
        if ranked:
            found[field] = ranked[0] if said else next((one for one in ranked if one.writes), ranked[0])
    return found


def queue(unit: Unit, user_id: UUID, changed: Mapping[str, tuple[Any, Any]]) -> dict[str, list[str]]:
    """Send each changed field (before, after) to its master after the commit; the fields by source. Raises
    `Conflict` for a field whose master does not let us write it."""
    found = masters(unit, user_id)
    sent: dict[str, list[str]] = {}
    for field, (before, after) in changed.items():
        master = found.get(field)
        if master is None:
            continue
        if not master.writes:
            detail = f"{field} of {master.code}"
            raise Conflict("A directory says this field; it is changed there.", detail, code="field_mastered")
        _put(unit, master.account_id, field, before, after)
        sent.setdefault(master.code, []).append(field)
    return sent


def forget_written(unit: Unit, user_ids: Iterable[UUID]) -> None:
    """Nothing of these identities is written any more."""
    accounts = select(SourceAccount.id).where(SourceAccount.user_id.in_(list(user_ids)))
    unit.db.execute(delete(WriteBack).where(WriteBack.account_id.in_(accounts.scalar_subquery())))


def _put(unit: Unit, account_id: UUID, field: str, before: str | None, value: str | None) -> None:
    where = WriteBack.account_id == account_id, WriteBack.field == field
    row = unit.db.execute(select(WriteBack).where(*where).with_for_update()).scalar_one_or_none()
    account = unit.db.get_one(SourceAccount, account_id)
    seen = account.seen or {}
    # A value that may be there already, or not yet, is none that somebody else has put there.
    earlier = row.expected if row is not None and row.state in {"waiting", "failed"} else [seen.get(field)]
    expected = [*dict.fromkeys([*earlier, before])]
    if row is None:
        row = WriteBack(id=new_id(), account_id=account_id, field=field)
        unit.db.add(row)
    row.value, row.expected, row.state, row.attempts = value, expected, "waiting", 0
    row.next_at = row.asked_at = unit.now
    row.asked_by, row.ended_at, row.found, row.detail, row.taken = unit.actor.name, None, None, None, True
    # Another source of the person must know that this one says the field, also while it is on its way.
    account.seen = {**seen, field: value}


def _accounts(unit: Unit, user_id: UUID) -> Sequence[Any]:
    """Accounts of the identity's person in sources that are in use, in the order of their say."""
    person = select(User.person_id).where(User.id == user_id).scalar_subquery()
    query = (
        select(
            *(SourceAccount.id, SourceAccount.seen, SourceAccount.status, SourceAccount.user_id),
            *(DirectorySource.code, DirectorySource.name, DirectorySource.kind, DirectorySource.settings),
            *(DirectorySource.write_back, DirectorySource.precedence),
        )
        .join(DirectorySource, DirectorySource.id == SourceAccount.source_id)
        .join(User, User.id == SourceAccount.user_id)
        .where(User.person_id == person, DirectorySource.enabled)
    )
    rows = unit.db.execute(query).all()
    return sorted(rows, key=lambda row: (row.precedence, row.code, row.user_id != user_id))


def _maps(settings: DirectorySettings, field: str) -> bool:
    return getattr(settings.attributes, field) is not None or any(one.field == field for one in settings.transforms)
