"""The proof: how fast records are sealed, and how fast the whole log is verified; one core, nothing beside it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine

from benchmarks.figure import figure
from identity.audit.outside import leaf_log, outside
from identity.audit.recorder import Recorder
from identity.audit.seal import Sealer
from identity.audit.testimony import Evidence
from identity.audit.verify import verify
from identity.core import migrate
from identity.core.db import Database, engine_options, prepare_engine
from identity.core.hot import HotCall
from identity.core.record import Actor, Origin, Record
from identity.core.settings import Settings
from identity.keys.seal import load_seal_keys
from tests.servers.postgres import Postgres

RECORDS = 300_000
BATCH = 1_000
USER = UUID("019a214b-7634-7c77-a697-1bf371d903ca")


@contextmanager
def recorded(kind: str, count: int) -> Iterator[tuple[Settings, Database]]:
    """A database with that many decision records, a millisecond apart."""
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as name:
        postgres = Postgres() if kind == "postgres" else None
        if postgres is not None:
            postgres.start()
        url = postgres.database() if postgres is not None else f"sqlite:///{Path(name) / 'tessera.db'}"
        settings = Settings.model_validate({"tessera_demo": True, "tessera_var": name, "database_url": url})
        database = prepare_engine(create_engine(url, **engine_options(url)))
        try:
            migrate.upgrade(database.engine)
            _record(database, count)
            yield settings, database
        finally:
            database.engine.dispose()
            if postgres is not None:
                postgres.stop()


def _record(database: Database, count: int) -> None:
    recorder = Recorder(database)
    start = datetime.now(UTC) - timedelta(milliseconds=count)
    for first in range(0, count, BATCH):
        with database.write() as connection:
            for n in range(first, min(first + BATCH, count), 100):
                call = HotCall({}, start + timedelta(milliseconds=n), f"request-{n}", Origin("10.0.0.1", "bench/1"))
                call.actor = Actor("application", "expense", "Expenses")
                recorder.write(connection, call, [_decision(n + k) for k in range(100)], None)
    recorder.stop()


def _decision(n: int) -> Record:
    return Record(
        kind="access.decision.made",
        result="permit",
        reason="permitted",
        user=USER,
        person=USER,
        application="expense",
        resource_type="claim",
        resource_id=f"BX-{n}",
        action="read",
        intent="ask",
        policy_version=3,
        facts_revision=120,
        rules=("role:employee:read",),
        input={"properties": {"company": "XH01", "org_unit": "RD"}, "context": {"intent": "ask"}, "acr": None},
    )


def seal(kind: str, count: int = RECORDS) -> Iterator[dict[str, Any]]:
    """Order, hash and store leaves and nodes, until nothing is left. `cpu_us`: of this process, for each record; what
    else runs on the machine changes it less than the rate."""
    with recorded(kind, count) as (settings, database):
        seconds, cpu, done = _seal(settings, database)
        yield figure(f"audit.seal.{kind}", done / seconds, "records/s", done, cpu_us=_each(cpu, done))


def verification(kind: str, count: int = RECORDS) -> Iterator[dict[str, Any]]:
    """The whole log anew, against its anchored head."""
    with recorded(kind, count) as (settings, database):
        _, _, done = _seal(settings, database)
        notes = tuple(outside(settings, lambda *_: None).file.notes())
        evidence = Evidence(tuple(one.key for one in load_seal_keys(settings)), notes, leaf_log(settings))
        started, cpu = time.perf_counter(), time.process_time()
        with database.read(consistent=True) as connection:
            report = verify(connection, evidence)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        if not report.ok or report.proved is None or report.proved.size != done:
            raise RuntimeError(str(report.findings[:3]))
        yield figure(f"audit.verify.{kind}", done / seconds, "records/s", done, cpu_us=_each(cpu, done))


def _each(seconds: float, count: int) -> float:
    return round(seconds / count * 1e6, 2)


def _seal(settings: Settings, database: Database) -> tuple[float, float, int]:
    sealer = Sealer(database, load_seal_keys(settings), outside(settings, lambda *_: None), "bench")
    sealer.take(datetime.now(UTC))
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while sealed := sealer.seal(datetime.now(UTC)):
        done += sealed
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    sealer.stop(datetime.now(UTC))
    return seconds, cpu, done


FIGURES = {
    "audit.seal.postgres": lambda: seal("postgres"),
    "audit.seal.sqlite": lambda: seal("sqlite"),
    "audit.verify.postgres": lambda: verification("postgres"),
    "audit.verify.sqlite": lambda: verification("sqlite"),
}
