"""Set a row's columns, and know and record what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from identity.core.record import Record
from identity.core.unit import Unit

T = TypeVar("T")


def set_values(row: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set what differs; the values that it had before, empty when nothing did."""
    before = {name: getattr(row, name) for name, value in values.items() if getattr(row, name) != value}
    for name in before:
        setattr(row, name, values[name])
    return before


def put_row(
    session: Session, table: type[T], code: str, values: Mapping[str, Any], **new: Any
) -> tuple[T, tuple[dict[str, Any] | None, dict[str, Any]] | None]:
    """The row with this code has these values, and those of `new` too when it is new; with it what changed, None for
    nothing: the values before (None of a new row) and after."""
    make: Any = table
    row = session.execute(select(table).filter_by(code=code)).scalar_one_or_none()
    if row is None:
        row = make(code=code, **values, **new)
        session.add(row)
        return row, (None, dict(values))
    before = set_values(row, values)
    return row, (before, {name: values[name] for name in before}) if before else None


def put_recorded(
    unit: Unit, table: type[T], code: str, values: Mapping[str, Any], *, kind: str, resource_type: str
) -> T:
    """`put_row` of a table with `created_at`; what changed is recorded."""
    row, changed = put_row(unit.db, table, code, values, created_at=unit.now)
    if changed:
        before, after = changed
        unit.record(
            Record(
                kind=kind, result="success", resource_type=resource_type, resource_id=code, before=before, after=after
            )
        )
    return row
