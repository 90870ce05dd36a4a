"""Rows of text from CSV files (RFC 4180) and Excel workbooks, read strictly and within bounds."""

from __future__ import annotations

import csv
import importlib
import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from identity.core.errors import Invalid
from identity.directory.reader import ReadIncomplete

FILE_MAX = 256 * 1024 * 1024
# What a workbook may unpack to, all its parts together, and how many parts it may have.
UNPACKED_MAX = 512 * 1024 * 1024
PARTS_MAX = 1_000
ROWS_MAX = 1_000_000
COLUMNS_MAX = 200
CELL_MAX = 131_072

Row = tuple[int, list[str]]


def read_file(path: Path) -> bytes:
    """The file's content; raises `ReadIncomplete`."""
    try:
        if path.stat().st_size > FILE_MAX:
            raise ReadIncomplete("The directory file is too large.", str(path), code="read_too_large")
        return path.read_bytes()
    except OSError as error:
        raise ReadIncomplete("The directory file cannot be read.", str(error), code="read_file") from None


def csv_rows(name: str, content: bytes, encoding: str, delimiter: str) -> Iterator[Row]:
    """Each line's number and cells, the header first; raises `Invalid` that names the line."""
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Invalid(f"{name}, line {line}: not {encoding}", code="table_line") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in reader:
            if any(cells):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise Invalid(f"{name}, line {number}: {error}", code="table_line") from None


def xlsx_rows(name: str, content: bytes, sheet: str) -> Iterator[Row]:
    """Each row's number and cells as text; raises `Invalid` for what is no workbook, unpacks too far, or lacks the
    sheet."""
    _check_parts(name, content)
    try:
        calamine: Any = importlib.import_module("python_calamine")
    except ImportError:
        raise Invalid("Excel files need the package python-calamine (tessera[xlsx]).", code="xlsx_package") from None
    try:
        book = calamine.load_workbook(io.BytesIO(content))
        if sheet not in book.sheet_names:
            raise Invalid(f"{name}: there is no sheet {sheet!r}", code="table_sheet")
        rows = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise Invalid(f"{name}: not a workbook that can be read: {error}", code="table_book") from None
    for number, cells in enumerate(rows, 1):
        texts = [_text(cell) for cell in cells]
        if any(texts):
            yield number, texts


def _check_parts(name: str, content: bytes) -> None:
    """Unpack every part once and throw it away: what a part says of its own size may be a lie."""
    left = UNPACKED_MAX
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            infos = parts.infolist()
            if len(infos) > PARTS_MAX:
                raise Invalid(f"{name}: too many parts", code="table_book")
            for info in infos:
                with parts.open(info) as part:
                    head = True
                    while chunk := part.read(1024 * 1024):
                        left -= len(chunk)
                        if left < 0:
                            raise Invalid(f"{name}: unpacks to more than is read", code="table_book")
                        if head and b"<!DOCTYPE" in chunk[:4_096].upper():
                            raise Invalid(f"{name}: a part has a DOCTYPE", code="table_book")
                        head = False
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise Invalid(f"{name}: not a workbook: {error}", code="table_book") from None
    except Exception as error:
        if isinstance(error, Invalid):
            raise
        raise Invalid(f"{name}: not a workbook: {type(error).__name__}", code="table_book") from None


def _text(cell: Any) -> str:
    """A cell as it is meant: whole numbers without a fraction, dates as YYYY-MM-DD, times with their zone left out."""
    if cell is None or cell == "":
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return str(cell).strip()


def records(name: str, rows: Iterator[Row]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row as column → cell, columns in small letters; raises `Invalid` that names the line."""
    first = next(rows, None)
    if first is None:
        return
    columns = [cell.strip().lower() for cell in first[1]]
    if len(columns) > COLUMNS_MAX:
        raise Invalid(f"{name}: more than {COLUMNS_MAX} columns", code="table_line")
    named = [one for one in columns if one]
    if len(set(named)) != len(named):
        raise Invalid(f"{name}, line {first[0]}: a column stands twice", code="table_line")
    for count, (number, cells) in enumerate(rows):
        if count >= ROWS_MAX:
            raise Invalid(f"{name}: more than {ROWS_MAX} rows", code="table_line")
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise Invalid(f"{name}, line {number}: more cells than the header has columns", code="table_line")
        if len(cells) < len(columns):
            raise Invalid(f"{name}, line {number}: fewer cells than the header has columns", code="table_line")
        if any(len(cell) > CELL_MAX for cell in cells):
            raise Invalid(f"{name}, line {number}: a cell is too long", code="table_line")
        yield number, {column: cell for column, cell in zip(columns, cells, strict=False) if column and cell}
