"""Many rows at once: COPY on PostgreSQL, one prepared statement on SQLite; an ORM object a row costs ten times that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import ARRAY, ColumnElement, Connection, Table, any_, literal
from sqlalchemy.exc import IntegrityError

from identity.core.db import Base, Fact


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
    if not rows:
        return
    table: Table = model.__table__  # type: ignore[assignment, union-attr]
    names = list(rows[0])
    processors = [_processor(table, name, connection) for name in names]
    values = [
        tuple(
            value if change is None else change(value) for value, change in zip(row.values(), processors, strict=True)
        )
        for row in rows
    ]
    columns = ", ".join(f'"{name}"' for name in names)
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" for _ in names)
        connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', values)  # noqa: S608
        return
    driver = connection.connection.cursor()
    try:
        with driver.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
            for row in values:
                copy.write_row(row)
    except psycopg.IntegrityError as error:
        raise IntegrityError(f"COPY {table.name}", None, error) from error
    finally:
        driver.close()


def _processor(table: Table, name: str, connection: Connection) -> Callable[[Any], Any] | None:
    column = table.columns[name]
    found: Callable[[Any], Any] | None = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    return found
