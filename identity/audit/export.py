"""What a search found, as a file to hand over: CSV for people, JSON lines of the exact bytes for programs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import BinaryIO

from sqlalchemy import Connection

from identity.audit import csv
from identity.audit.query import PAGE_MAX, Filter, Page, Row, search
from identity.audit.sentence import sentence
from identity.core.errors import Invalid
from identity.core.i18n import gettext
from identity.core.i18n import gettext_noop as _

ROWS_MAX = 200_000

COLUMNS = (
    *(_("Time"), _("Kind"), _("What happened"), _("Result"), _("Reason"), _("Acting"), _("Person"), _("Application")),
    *(_("Object type"), _("Object"), _("Action"), _("Address"), _("Reason given"), _("Reference"), _("Request")),
    _("Record"),
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the number of lines without a header, the file's SHA-256, and to when it is complete."""

    rows: int
    sha256: str
    complete_to: datetime | None


class _Hashing:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def write_csv(connection: Connection, wanted: Filter, file: BinaryIO, zone: tzinfo) -> Exported:
    """A row for each record or item of one, newest first; raises `Invalid` for more than `ROWS_MAX`."""
    out = _Hashing(file)
    found = _Found()
    for line in csv.lines(
        [gettext(one) for one in COLUMNS], (_cells(row) for row in found.rows(connection, wanted)), zone
    ):
        out.write(line.encode())
    return Exported(found.count, out.sha256, found.complete_to)


def write_json_lines(connection: Connection, wanted: Filter, file: BinaryIO) -> Exported:
    """Each record once, its stored bytes as they are, newest first; raises `Invalid` for more than `ROWS_MAX`."""
    out = _Hashing(file)
    found, last, count = _Found(), None, 0
    for page in found.pages(connection, wanted):
        for row in page.rows:
            if row.id != last and row.raw:
                out.write(row.raw + b"\n")
                last, count = row.id, count + 1
    return Exported(count, out.sha256, found.complete_to)


class _Found:
    """The pages of a search, counted."""

    def __init__(self) -> None:
        self.count = 0
        self.complete_to: datetime | None = None

    def pages(self, connection: Connection, wanted: Filter) -> Iterator[Page]:
        after = None
        while True:
            page = search(connection, wanted, after, PAGE_MAX)
            self.count += len(page.rows)
            self.complete_to = self.complete_to or page.complete_to
            if self.count > ROWS_MAX:
                raise Invalid(
                    f"This finds more than {ROWS_MAX} records; please narrow it by days.", code="export_too_large"
                )
            yield page
            if page.next is None:
                return
            after = page.next

    def rows(self, connection: Connection, wanted: Filter) -> Iterator[Row]:
        for page in self.pages(connection, wanted):
            yield from page.rows


def _cells(row: Row) -> tuple[object, ...]:
    body = row.body
    return (
        *(row.at, row.kind, sentence(body), row.result, row.reason, body.get("actor", {}).get("name")),
        *(body.get("person"), row.application, row.resource_type, row.resource_id, row.action, body.get("ip")),
        *(body.get("why"), body.get("reference"), body.get("request_id"), row.id),
    )
