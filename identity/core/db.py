"""The database: declarative base, column types, and the two kinds of transaction.

SQLite writers take a lock on a file before BEGIN IMMEDIATE: waiting writers then queue in the kernel instead of
polling (polling had tails of seconds).
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import orjson
import psycopg
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    MetaData,
    Text,
    Uuid,
    event,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from identity.core.errors import Unavailable
from identity.core.secrets import new_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept as timestamptz on PostgreSQL and as integer microseconds on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored")
        return value if dialect.name == "postgresql" else to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return from_micros(value)


class Json(TypeDecorator[Any]):
    """A JSON value as text, the same on both databases."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else self.text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else orjson.loads(value)

    @staticmethod
    def text(value: Any) -> str:
        """The value as it is stored."""
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def to_micros(value: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    delta = value - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    """The aware UTC time of microseconds since 1970."""
    return datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)


class Base(DeclarativeBase):
    """Base of every table; constraint names are fixed so that migrations agree on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        UUID: Uuid(),
        str: Text(),
        int: BigInteger(),
    }


class Keyed:
    """A row with a UUIDv7 key."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)


class Fact(Keyed):
    """An asserted row: true in business time [valid_from, valid_until), known in revisions [rev_from, rev_until).

    `rev_until` is set once, when the fact is closed; nothing else of the row is ever updated and no row is deleted
    (foundations: facts in time). Rows are written through `Unit.facts` only.
    """

    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    rev_from: Mapped[int]
    rev_until: Mapped[int | None]


db = SQLAlchemy(metadata=Base.metadata, session_options={"autoflush": False})


_open = threading.local()


def in_transaction() -> bool:
    """Whether this thread has a transaction open; it may then wait for nobody who needs one."""
    return bool(getattr(_open, "depth", 0))


@contextmanager
def _counted() -> Iterator[None]:
    _open.depth = getattr(_open, "depth", 0) + 1
    try:
        yield
    finally:
        _open.depth -= 1


class Database:
    """One engine and its two kinds of transaction, `read()` and `write()`; usable from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._lock_path: Path | None = None
        self._thread_lock = threading.Lock()
        if self.is_sqlite:
            if not engine.url.database or engine.url.database == ":memory:":
                raise ValueError("SQLite needs a file: several threads and processes share it")
            self._lock_path = Path(engine.url.database + ".lock")

    @contextmanager
    def read(self, *, consistent: bool = False) -> Iterator[Connection]:
        """A connection that only reads; raises `Unavailable` when the database is not there.

        `consistent`: all statements see the same commit (on SQLite they always do).
        """
        with reachable(), _counted(), self.engine.connect() as connection:
            if consistent and not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            if self.is_sqlite:
                connection.exec_driver_sql("PRAGMA query_only = ON")
                connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                if self.is_sqlite and not connection.invalidated:
                    connection.rollback()
                    connection.exec_driver_sql("PRAGMA query_only = OFF")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end and rolls back on any error."""
        with reachable(), _counted(), self._writer(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            else:
                with connection.begin():
                    yield connection

    @contextmanager
    def _writer(self) -> Iterator[None]:
        if self._lock_path is None:
            yield
            return
        with self._thread_lock, self._lock_path.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def open_write_lock(self) -> int:
        """SQLite: a descriptor of the file whose exclusive `flock` every writer holds from before BEGIN to its end; for
        a writer with a connection of its own, who closes it."""
        if self._lock_path is None:
            raise ValueError("only SQLite's writers take turns by a file")
        return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


# SQLSTATE classes of a database that cannot take it now: connection, read-only (25), resources, operator, system.
_OUTAGES = ("08", "25", "53", "57", "58")


def is_outage(error: BaseException | None) -> bool:
    """Whether the driver's error says that the database is down, full, read-only or lost; no fault of ours."""
    state = getattr(error, "sqlstate", None)
    return str(state)[:2] in _OUTAGES if state else type(error).__name__ in {"OperationalError", "InterfaceError"}


@contextmanager
def reachable() -> Iterator[None]:
    """Turn a database that is down, locked, read-only or full into `Unavailable`; faults of ours pass through."""
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        raise Unavailable(
            "The service cannot reach its database.",
            str(error),
            code="database_unavailable",
        ) from error
    except psycopg.Error as error:
        # The driver's own, of a COPY.
        if is_outage(error):
            raise Unavailable(
                "The service lost its database.",
                str(error),
                code="database_unavailable",
            ) from error
        raise
    except DBAPIError as error:
        if error.connection_invalidated or is_outage(error.orig):
            raise Unavailable(
                "The service lost its database.",
                str(error),
                code="database_unavailable",
            ) from error
        raise


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "busy_timeout = 5000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def engine_options(url: str) -> dict[str, Any]:
    """Pool and driver options for this address. Values of statements stay out of what errors say, and so of the log."""
    if url.startswith("sqlite"):
        return {
            "hide_parameters": True,
            "pool_size": 24,
            "max_overflow": 8,
            "pool_timeout": 5,
            "connect_args": {"check_same_thread": False},
        }
    return {
        "hide_parameters": True,
        "pool_size": 20,
        "max_overflow": 4,
        "pool_timeout": 5,
        "pool_pre_ping": True,
        "connect_args": {
            "connect_timeout": 3,
            "options": "-c lock_timeout=2000 -c statement_timeout=10000",
        },
    }


def prepare_engine(engine: Engine) -> Database:
    """Hook the engine's connections and wrap it."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return Database(engine)


def init_database(app: Flask, url: str) -> Database:
    """Bind Flask-SQLAlchemy to `url` and return the one `Database` of this process."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    db.init_app(app)
    with app.app_context():
        return prepare_engine(db.engine)
