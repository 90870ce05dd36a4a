"""What a draft adds and takes away, and how two people's changes of the same rules meet. Pure, but for `write`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.models import DutyRule, PermissionRow, RoleInheritance, RoleMapping

_Rows = Callable[[RuleSetInput, int], list[dict[str, Any]]]

PARTS: Mapping[str, tuple[Any, _Rows]] = {
    "permissions": (PermissionRow, rules.permission_rows),
    "inheritance": (RoleInheritance, rules.inheritance_rows),
    "mappings": (RoleMapping, rules.mapping_rows),
    "duties": (DutyRule, rules.duty_rows),
}
"""The parts of a version: the fields of `RuleSetInput`, the table of each and its rows."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows of one part, by their ids (`rules.row_id`), that one rule set has and another does not."""

    part: str
    added: Mapping[str, Any]
    removed: Mapping[str, Any]


def deltas(old: RuleSetInput, new: RuleSetInput) -> list[Delta]:
    """What `new` adds and takes away, of each part in which they differ."""
    found = []
    for part in PARTS:
        before, after = by_id(old, part), by_id(new, part)
        added = {key: row for key, row in after.items() if key not in before}
        removed = {key: row for key, row in before.items() if key not in after}
        if added or removed:
            found.append(Delta(part, added, removed))
    return found


def by_id(content: RuleSetInput, part: str) -> dict[str, Any]:
    """The rows of a part by their ids."""
    return {rules.row_id(row): row for row in getattr(content, part)}


def changed(content: RuleSetInput, change: Delta) -> RuleSetInput:
    """The content with this change made; what is to be removed and is not there is left alone."""
    kept = [row for key, row in by_id(content, change.part).items() if key not in change.removed]
    return content.model_copy(update={change.part: (*kept, *change.added.values())})


def write(session: Session, version: int, change: Delta) -> None:
    """Make this change in the rows of a version; the caller has made sure that it is still a draft."""
    table, rows = PARTS[change.part]
    for row in rows(_only(change.part, change.removed.values()), version):
        keys = list(table.__table__.primary_key)
        session.execute(delete(table).where(*(column == row[column.name] for column in keys)))
    added = rows(_only(change.part, change.added.values()), version)
    if added:
        session.execute(insert(table), added)


def _only(part: str, rows: Iterable[Any]) -> RuleSetInput:
    return RuleSetInput().model_copy(update={part: tuple(rows)})


def merge(base: RuleSetInput, mine: RuleSetInput, theirs: RuleSetInput) -> tuple[RuleSetInput, list[tuple[str, Any]]]:
    """The changes that `mine` made to `base`, made to `theirs`; and (part, row) of those that cannot be.

    A change cannot be made where it takes away a row that `theirs` has no more: somebody else removed or replaced it.
    Nor where it adds a duty rule under an id that stands for another rule now.
    """
    merged, conflicts = theirs, list[tuple[str, Any]]()
    for change in deltas(base, mine):
        there = by_id(theirs, change.part)
        conflicts += [(change.part, row) for key, row in change.removed.items() if key not in there]
        added = {key: row for key, row in change.added.items() if key not in there}
        if change.part == "duties":
            kept = {row.id for key, row in there.items() if key not in change.removed}
            conflicts += [(change.part, row) for row in added.values() if row.id in kept]
        merged = changed(merged, Delta(change.part, added, change.removed))
    return merged, conflicts
