"""Directory sources: made, changed, put out of use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, Invalid, NotFound
from identity.core.record import Record
from identity.core.rows import put_row, set_values
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.directory.settings import DirectorySettings
from identity.directory.writable import WRITABLE, why_not


def put_directory(unit: Unit, code: str, values: Mapping[str, Any]) -> DirectorySource:
    """The source with this code has these values; made when it is new. The values are columns' names."""
    unit.require("write", "directory", code)
    row, changed = put_row(unit.db, DirectorySource, code, values, created_at=unit.now)
    if changed:
        _changed(unit, row, *changed)
    return row


def choose_write_back(unit: Unit, code: str, fields: Collection[str]) -> None:
    """These fields are written to the directory when they are changed here, and no others.

    Raises `NotFound`, `Conflict` where the settings say it already, and `Invalid` for a field that cannot be written.
    """
    unit.require("write", "directory", code)
    row = unit.db.execute(
        select(DirectorySource).where(DirectorySource.code == code).with_for_update()
    ).scalar_one_or_none()
    if row is None:
        raise NotFound("There is no such directory.")
    settings = DirectorySettings.load(row.kind, row.settings)
    if settings.write_back is not None:
        raise Conflict("The configuration file says what is written back.", code="managed_by_file")
    chosen = [one for one in WRITABLE if one in fields]
    if len(chosen) != len(set(fields)) or any(why_not(settings, one) for one in chosen):
        raise Invalid("This field cannot be written back.", code="write_back")
    before = set_values(row, {"write_back": chosen})
    if before:
        _changed(unit, row, before, {"write_back": chosen})


def _changed(unit: Unit, row: DirectorySource, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    unit.facts.touch("directory")
    unit.record(
        Record(
            kind=Kind.DIRECTORY_CHANGED,
            result="success",
            resource_type="directory",
            resource_id=row.code,
            data={"directory": row.code},
            before=before,
            after=after,
        )
    )
