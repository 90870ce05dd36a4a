"""CSV that a spreadsheet opens as text: no cell is run as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import Any

# OWASP "CSV Injection": these begin a formula in the usual spreadsheets, also behind white space.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
BOM = "\ufeff"


def lines(header: Iterable[str], rows: Iterable[Iterable[Any]], zone: tzinfo) -> Iterator[str]:
    """The lines of the file, times in `zone`; a byte-order mark first, or Excel reads Chinese text as Latin."""
    yield BOM + _line(header, zone)
    for row in rows:
        yield _line(row, zone)


def _line(row: Iterable[Any], zone: tzinfo) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([_cell(value, zone) for value in row])
    return buffer.getvalue()


def _cell(value: Any, zone: tzinfo) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat(sep=" ", timespec="seconds")
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text
