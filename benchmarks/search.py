"""Search in ten million index rows: the first page by each indexed filter, by common and by rare values."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, create_engine, text

from benchmarks.figure import figure
from benchmarks.served import prepared
from identity.audit.query import Filter, search
from identity.core.db import Database, engine_options, prepare_engine, to_micros

# Smaller for a quick look: BENCH_ROWS=100000
ROWS = int(os.environ.get("BENCH_ROWS", "10000000"))
PERSONS, APPLICATIONS, OBJECTS, WORDS = 20_000, 40, 3_000_000, 5_000
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP_MS = 1_000
RUNS = 7


def found(kind: str) -> Iterator[dict[str, Any]]:
    """Milliseconds of the slowest filter, each the median of its runs behind a first one; what is asked by two ("and")
    is printed only, and what hardly meets apart: such a search looks through as many rows as one may, and stops. There
    are no record bodies: a page's fifty more look-ups by key are not part of it."""
    with filled(kind) as database:
        times, bounded = _times(database, filters()), _times(database, hardly_met())
        slowest = max((name for name in times if " and " not in name), key=lambda name: times[name])
        name = "10m" if ROWS == 10_000_000 else str(ROWS)
        more = {"slowest": slowest, "all_ms": times, "hardly_met_ms": bounded}
        yield figure(f"audit.search.{name}.{kind}", times[slowest], "ms", ROWS, **more)


def _times(database: Database, asked: Mapping[str, Filter]) -> dict[str, float]:
    times = {}
    for name, wanted in asked.items():
        with database.read() as connection:
            times[name] = _milliseconds(connection, wanted)
    return times


def _milliseconds(connection: Connection, wanted: Filter) -> float:
    taken = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        search(connection, wanted)
        taken.append((time.perf_counter() - started) * 1_000)
    return round(median(taken[1:]), 2)


def filters() -> dict[str, Filter]:
    """By what an auditor looks; of each a value that many rows have and one that few or none have."""
    middle = START + timedelta(milliseconds=STEP_MS * ROWS // 2)
    return {
        "none": Filter(),
        "person": Filter(person=_person(17)),
        "person unknown": Filter(person=UUID(int=1)),
        "application common": Filter(application="app0"),
        "application unknown": Filter(application="app999"),
        "object": Filter(resource_id="BX-12345"),
        "kind common": Filter(kind="access.decision.made"),
        "kind rare": Filter(kind="keys.key.revoked"),
        "result common": Filter(result="permit"),
        "result deny": Filter(result="deny"),
        "result rare": Filter(result="failed"),
        "a day": Filter(since=middle, until=middle + timedelta(days=1)),
        "person and result": Filter(person=_person(17), result="deny"),
        "application and result": Filter(application="app0", result="deny"),
        "text common": Filter(text="word1"),
        "text rare": Filter(text="word4999"),
        "text unknown": Filter(text="nothing"),
        "text and text": Filter(text="word1 word3"),
        "text beginning": Filter(text="word499*"),
        "text Chinese": Filter(text="出纳"),
        "text and result": Filter(text="word1", result="refused"),
        "text and rare result": Filter(text="word1", result="failed"),
        "text of an object": Filter(text="BX-12345"),
    }


def hardly_met() -> dict[str, Filter]:
    """What very many rows have, with something beside it that hardly any of them has."""
    return {
        "word and application": Filter(text="word1", application="app0"),
        "word and word": Filter(text="出纳 轮岗"),
        "application and rare reason": Filter(application="app0", reason="nothing"),
        "application, result and kind": Filter(application="app0", result="deny", kind="people.user.changed"),
        "request": Filter(request_id="nothing"),
        "result without permits": Filter(result="permit", without_permits_of="app0", kind="people.user.changed"),
    }


def _person(number: int) -> UUID:
    return UUID(int=(0x019A << 112) | number)


@contextmanager
def filled(kind: str) -> Iterator[Database]:
    """A database with that many index rows, made by itself: nine of ten are decisions, one has words."""
    with prepared(kind) as env:
        url = env.get("DATABASE_URL") or f"sqlite:///{env['TESSERA_VAR']}/tessera.db"
        database = prepare_engine(create_engine(url, **engine_options(url)))
        with database.write() as connection:
            fill(connection, kind)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if kind == "postgres":  # as autovacuum would
                connection.execute(text("SET statement_timeout = 0"))
                connection.execute(text("VACUUM ANALYZE audit_find, audit_word"))
        yield database
        database.engine.dispose()


def fill(connection: Connection, kind: str) -> None:
    """Insert without the indexes, then make them: as a rebuild would."""
    if kind == "postgres":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
    for table, statement in (("audit_find", _ROWS[kind]), ("audit_word", _WORDS[kind])):
        indexes = _indexes(connection, kind, table)
        for name, _ in indexes:
            connection.execute(text(f'DROP INDEX "{name}"'))
        driver: Any = connection.connection.driver_connection
        driver.execute(statement)
        for _, definition in indexes:
            connection.execute(text(definition))


def _indexes(connection: Connection, kind: str, table: str) -> Sequence[tuple[str, str]]:
    """Name and definition of the indexes that are no keys."""
    query = (
        f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{table}' AND indexname NOT LIKE 'pk%'"
        if kind == "postgres"
        else f"SELECT name, sql FROM sqlite_master WHERE tbl_name = '{table}' AND type = 'index' AND sql IS NOT NULL"
    )
    return [(row[0], row[1]) for row in connection.execute(text(query))]


# The n-th row: its id and time grow with n, everything else is spread by multiplication.
_CASES = """
    CASE WHEN n % 10 < 9 THEN 'decision' ELSE 'change' END,
    CASE WHEN n % 10 < 9 THEN 'access.decision.made' WHEN n % 1000003 = 9 THEN 'keys.key.revoked'
         ELSE 'people.user.changed' END,
    CASE WHEN n % 10 < 9 THEN 'app' ELSE 'user' END || (n * 7919 % 40),
    'r' || n, 0,
    CASE WHEN n % 10 < 9 THEN CASE WHEN n % 25 = 0 THEN 'deny' ELSE 'permit' END
         WHEN n % 100003 = 9 THEN 'failed' WHEN n % 190 = 9 THEN 'refused' ELSE 'success' END,
    CASE WHEN n % 25 = 0 THEN 'scope' ELSE 'permitted' END,
    {person}, {person},
    CASE WHEN n * 31 % 100 < 60 THEN 'app0' ELSE 'app' || (n * 7919 % 40) END,
    'claim', 'BX-' || (n * 2654435761 % 3000000), 'read'
"""
_COLUMNS = (
    'record_id, at, "class", kind, actor, request_id, item, result, reason, person, user_id, application, '
    "resource_type, resource_id, action"
)
_PG_ID = "('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_PG_AT = f"timestamptz '{START.isoformat()}' + n * interval '{STEP_MS} milliseconds'"
_PG_PERSON = f"('019a0000-0000-0000-0000-' || lpad(to_hex(n * 7919 % {PERSONS}), 12, '0'))::uuid"
_LITE_ID = "'01900000000070008000' || printf('%012x', n)"
_LITE_AT = f"{to_micros(START)} + n * {STEP_MS * 1_000}"
_LITE_PERSON = f"'019a0000000000000000' || printf('%012x', n * 7919 % {PERSONS})"
_LITE_ALL = "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {last}) "
_WORD = (
    "CASE k WHEN 0 THEN 'word' || (n / 10 % 10) WHEN 1 THEN 'word' || (n / 10 * 7919 % 5000) "
    "WHEN 2 THEN CASE n / 10 % 3 WHEN 0 THEN '出纳' WHEN 1 THEN '轮岗' ELSE '主管' END "
    "ELSE 'w' || k || 'x' || (n / 10 * 31 % 1000) END"
)

_ROWS = {
    "postgres": (
        f"INSERT INTO audit_find ({_COLUMNS}) SELECT {_PG_ID}, {_PG_AT}, {_CASES.format(person=_PG_PERSON)} "
        f"FROM generate_series(0::bigint, {ROWS - 1}) AS n"
    ),
    "sqlite": (
        f"INSERT INTO audit_find ({_COLUMNS}) {_LITE_ALL.format(last=ROWS - 1)} "
        f"SELECT {_LITE_ID}, {_LITE_AT}, {_CASES.format(person=_LITE_PERSON)} FROM c"
    ),
}
_WORDS = {
    "postgres": (
        f"INSERT INTO audit_word (word, at, record_id, item) SELECT DISTINCT {_WORD}, {_PG_AT}, {_PG_ID}, 0 "
        f"FROM generate_series(9::bigint, {ROWS - 1}, 10) AS n, generate_series(0, 5) AS k"
    ),
    "sqlite": (
        f"INSERT OR IGNORE INTO audit_word (word, at, record_id, item) {_LITE_ALL.format(last=ROWS // 10 - 1)}, "
        "w(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM w WHERE k < 5) "
        f"SELECT {_WORD}, {_LITE_AT}, {_LITE_ID}, 0 FROM (SELECT c.n * 10 + 9 AS n FROM c), w ORDER BY 1, 2"
    ),
}

FIGURES = {
    "audit.search.10m.postgres": lambda: found("postgres"),
    "audit.search.10m.sqlite": lambda: found("sqlite"),
}
