"""How records reach the tables: COPY on PostgreSQL, executemany on SQLite, and the rows that ride along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite

from identity.audit.bulk import COPY_RECORDS
from identity.audit.encode import Stored
from identity.audit.models import AuditPersonal
from identity.core.db import Base, to_micros

_INSERT = 'INSERT INTO audit_record ("class", at, id, body) VALUES '
_TYPES = ["text", "timestamptz", "uuid", "bytea"]

Row = tuple[type[Base], Mapping[str, Any]]


def insert_records(connection: Connection, stored: Sequence[Stored]) -> None:
    """Insert the records, with their personal values, in this transaction."""
    if not stored:
        return
    if connection.dialect.name == "postgresql":
        cursor: Any = connection.connection.cursor()
        _copy(cursor, stored)
        cursor.close()
    else:
        connection.exec_driver_sql(f"{_INSERT}(?, ?, ?, ?)", [_sqlite_row(one) for one in stored])
    personal = [
        {
            "class": one.retention_class,
            "at": one.at,
            "record_id": one.id,
            "field": name,
            "salt": salt,
            "value": value,
        }
        for one in stored
        for name, salt, value in one.personal
    ]
    if personal:
        connection.execute(insert(AuditPersonal), personal)


def insert_missing(connection: Connection, one: Stored) -> bool:
    """Insert a record of which a first try may have been committed; whether it had not been."""
    if connection.dialect.name == "postgresql":
        values: tuple[Any, ...] = (one.retention_class, one.at, one.id, one.body)
        marks = "%s, %s, %s, %s"
    else:
        values, marks = _sqlite_row(one), "?, ?, ?, ?"
    statement = f"{_INSERT}({marks}) ON CONFLICT DO NOTHING RETURNING id"
    return connection.exec_driver_sql(statement, values).first() is not None


def take(connection: Connection, rows: Sequence[Row]) -> list[bool]:
    """Insert single-use rows, one statement a table; for each whether this one got it.

    Of two equal rows the first gets it: in one batch as between two.
    """
    numbers: dict[type[Base], list[int]] = defaultdict(list)
    for number, (model, _) in enumerate(rows):
        numbers[model].append(number)
    taken = [False] * len(rows)
    maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for model, mine in numbers.items():
        table: Table = model.__table__  # type: ignore[assignment]
        key = [column.name for column in table.primary_key.columns]
        statement = maker(table).on_conflict_do_nothing().returning(*table.primary_key.columns)
        inserted = {tuple(one) for one in connection.execute(statement, [dict(rows[number][1]) for number in mine])}
        for number in mine:
            mark = tuple(rows[number][1][name] for name in key)
            taken[number] = mark in inserted
            inserted.discard(mark)
    return taken


def _copy(cursor: Any, stored: Sequence[Stored]) -> None:
    with cursor.copy(COPY_RECORDS) as copy:
        copy.set_types(_TYPES)
        for one in stored:
            copy.write_row((one.retention_class, one.at, one.id, one.body))


def _sqlite_row(one: Stored) -> tuple[Any, ...]:
    return (one.retention_class, to_micros(one.at), one.id.hex, one.body)
