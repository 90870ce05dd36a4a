"""Directory sources: made, changed, put out of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.rows import put_row
from identity.core.unit import Unit
from identity.directory.models import DirectorySource


def put_directory(unit: Unit, code: str, values: Mapping[str, Any]) -> DirectorySource:
    """The source with this code has these values; made when it is new. The values are columns' names."""
    unit.require("write", "directory", code)
    row, changed = put_row(unit.db, DirectorySource, code, values, created_at=unit.now)
    if changed:
        _changed(unit, row, *changed)
    return row


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
