"""Many rows at once: COPY on PostgreSQL, one prepared statement on SQLite; an ORM object a row costs ten times that.

COPY's text form (https://www.postgresql.org/docs/15/sql-copy.html, "Text Format") is written column by column: the
driver's own writer looks at each value by itself, which costs five times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import uuid_utils
from sqlalchemy import ARRAY, Boolean, ColumnElement, Connection, Integer, Table, Text, Uuid, any_, literal
from sqlalchemy.exc import IntegrityError

from identity.core.db import Base, Fact, Json, UtcDateTime

NULL = r"\N"
# A backslash first: the others are written with one.
_ESCAPES = (("\\", r"\\"), ("\n", r"\n"), ("\t", r"\t"), ("\r", r"\r"))


def one_of(connection: Connection, column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether the column has one of these values: on PostgreSQL as one array, because a thousand placeholders cost more
    to write and to parse than the query itself."""
    if connection.dialect.name == "postgresql":
        chosen: ColumnElement[bool] = column == any_(literal(list(values), ARRAY(column.type)))
        return chosen
    found: ColumnElement[bool] = column.in_(values)
    return found


def insert_rows(connection: Connection, model: type[Base | Fact], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows, which all have the keys of the first; column defaults are not applied.

    Raises `IntegrityError` for a broken constraint, as the ORM does.
    """
    if rows:
        insert_columns(connection, model, {name: [row[name] for row in rows] for name in rows[0]})


def insert_columns(connection: Connection, model: type[Base | Fact], values: Mapping[str, Sequence[Any]]) -> None:
    """As `insert_rows`, each column's values by themselves, in the same order."""
    table: Table = model.__table__  # type: ignore[assignment, union-attr]
    columns = ", ".join(f'"{name}"' for name in values)
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" for _ in values)
        bound = [_bound(table, name, connection, found) for name, found in values.items()]
        statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608
        connection.exec_driver_sql(statement, list(zip(*bound, strict=True)))
        return
    texts = [_texts(table.columns[name].type, found) for name, found in values.items()]
    lines = "\n".join(map("\t".join, zip(*texts, strict=True)))
    driver = connection.connection.cursor()
    try:
        with driver.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
            copy.write(f"{lines}\n".encode())
    except psycopg.IntegrityError as error:
        raise IntegrityError(f"COPY {table.name}", None, error) from error
    finally:
        driver.close()


def new_keys(count: int) -> list[Any]:
    """Keys as of `new_id`, for rows that nobody names before they are written: an eighth of the cost. They are no
    `UUID`, but have its `hex`, by which they are written."""
    return [uuid_utils.uuid7() for _ in range(count)]


def _bound(table: Table, name: str, connection: Connection, values: Sequence[Any]) -> Sequence[Any]:
    """The values as SQLite's driver takes them."""
    dialect = connection.dialect
    change: Callable[[Any], Any] | None = table.columns[name].type.dialect_impl(dialect).bind_processor(dialect)
    return values if change is None else [change(value) for value in values]


def _texts(kind: Any, values: Sequence[Any]) -> list[str]:
    """The values of a column of this type in COPY's text form."""
    if isinstance(kind, Uuid):
        return [NULL if value is None else value.hex for value in values]
    if isinstance(kind, Json):
        # JSON has its line ends and tabs escaped already.
        return [NULL if value is None else Json.text(value).replace("\\", r"\\") for value in values]
    if isinstance(kind, Text):
        return _escaped(values)
    if isinstance(kind, UtcDateTime):
        once = {value: NULL if value is None else _time(value) for value in set(values)}
        return [once[value] for value in values]
    if isinstance(kind, Boolean | Integer):
        return [NULL if value is None else str(value) for value in values]
    raise TypeError(f"no column of type {kind} is written in bulk")


def _escaped(values: Sequence[str | None]) -> list[str]:
    texts = "".join([value for value in values if value])
    found = [(char, escape) for char, escape in _ESCAPES if char in texts]
    if not found:
        return [NULL if value is None else value for value in values]

    def escaped(value: str) -> str:
        for char, escape in found:
            value = value.replace(char, escape)
        return value

    return [NULL if value is None else escaped(value) for value in values]


def _time(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("a time without zone cannot be stored")
    return value.isoformat()
