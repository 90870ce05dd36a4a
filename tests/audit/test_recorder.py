"""Group commit: nobody is told before it is durable, nobody is told twice, and nobody takes another one down."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, text

from identity.audit.buffered import Buffered, settle
from identity.audit.models import AuditRecord
from identity.audit.recorder import AlreadyUsed, Recorder, SingleUse
from identity.audit.store import take
from identity.core.db import Database
from identity.core.errors import Unavailable
from identity.core.once import Once
from identity.core.record import Actor, Record, StandingCall
from tests.world import World


def call() -> StandingCall:
    return StandingCall(Actor.system("test"), datetime.now(UTC))


def decision(resource: str) -> Record:
    return Record(
        kind="access.decision.made", result="permit", application="expense", resource_type="claim", resource_id=resource
    )


def once(value: bytes, refusal: Record | None = None) -> SingleUse:
    expires = datetime.now(UTC) + timedelta(hours=1)
    return SingleUse(Once, {"kind": "test", "value": value, "expires_at": expires}, refusal)


def stored(database: Database) -> Counter[str]:
    """The decisions' resources, and how often each is recorded."""
    with database.read() as connection:
        bodies = connection.execute(select(AuditRecord.body)).scalars().all()
    return Counter(one["resource_id"] for one in map(orjson.loads, bodies) if one["kind"] == "access.decision.made")


def gaps(database: Database) -> list[tuple[str, int]]:
    with database.read() as connection:
        bodies = [orjson.loads(body) for body in connection.execute(select(AuditRecord.body)).scalars()]
    return [(one["application"], one["data"]["count"]) for one in bodies if one["kind"] == "access.decisions.missed"]


@contextmanager
def recorder(world: World, folder: Path | None = None, **limits: float) -> Iterator[Recorder]:
    made = Recorder(world.database, Buffered(folder) if folder else None, **limits)
    yield made
    made.stop()


@contextmanager
def held_up(world: World) -> Iterator[None]:
    """While open, no writer gets to the record; a second at most, for a writer gives up after two."""
    with world.database.write() as connection:
        if not world.database.is_sqlite:
            connection.execute(text("LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE"))
        yield


def queued(one: Recorder, count: int) -> None:
    """Wait until so many jobs lie in the queue or in the writer's hands."""
    deadline = time.monotonic() + 10
    while one.metrics()["queue_jobs"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def drained(one: Recorder) -> None:
    """Wait until the queue is empty."""
    deadline = time.monotonic() + 10
    while one.metrics()["queue_jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def outcome(future: Future[Any]) -> str:
    error = future.exception(timeout=30)
    return type(error).__name__ if error else "durable"


def test_what_is_acknowledged_is_there_once(world: World) -> None:
    with recorder(world) as one, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: one.submit(call(), [decision(f"n{number}")]), range(400)))
        assert stored(world.database) == Counter({f"n{number}": 1 for number in range(400)})
        counts = one.metrics()
        assert counts["records"] == 400
        assert counts["commits"] <= 400
        assert counts["queue_jobs"] == counts["queue_bytes"] == 0


def test_of_two_equal_rows_in_one_batch_the_first_wins(world: World) -> None:
    with world.database.write() as connection:
        rows = [(one.table, one.values) for one in (once(b"a"), once(b"b"), once(b"a"), once(b"b"))]
        assert take(connection, rows) == [True, True, False, False]
        assert take(connection, rows) == [False] * 4


def test_rf_10_a_row_that_many_want_at_once_is_taken_by_one(world: World) -> None:
    def use(number: int) -> None:
        one.submit(call(), [decision(f"won{number}")], [once(b"the one", decision(f"lost{number}"))])

    with recorder(world) as one, ThreadPoolExecutor(24) as pool:
        with held_up(world):
            asked = [pool.submit(use, number) for number in range(24)]
            queued(one, 24)
        outcomes = Counter(outcome(future) for future in asked)
        assert outcomes == {"durable": 1, "AlreadyUsed": 23}
        names = Counter(name.rstrip("0123456789") for name in stored(world.database).elements())
        assert names == {"won": 1, "lost": 23}


def test_rows_that_follow_are_written_with_the_winner_only(world: World) -> None:
    with recorder(world) as one:
        one.submit(call(), [], [once(b"first"), once(b"follows")])
        with pytest.raises(AlreadyUsed):
            one.submit(call(), [], [once(b"first"), once(b"stays free")])
        one.submit(call(), [], [once(b"stays free")])


def test_a_bad_job_fails_alone(world: World) -> None:
    bad = SingleUse(Once, {"kind": None, "value": b"x", "expires_at": datetime.now(UTC)}, None)

    def submit(number: int) -> None:
        one.submit(call(), [decision(f"n{number}")], [bad] if number == 7 else [])

    with recorder(world) as one, ThreadPoolExecutor(16) as pool:
        with held_up(world):
            asked = [pool.submit(submit, number) for number in range(16)]
            queued(one, 16)
        assert [outcome(future) for future in asked] == ["Unavailable" if n == 7 else "durable" for n in range(16)]
        assert stored(world.database) == Counter({f"n{number}": 1 for number in range(16) if number != 7})


@pytest.mark.parametrize("limits", [{"queue_max": 4}, {"queue_bytes_max": 1_400}])
def test_a_full_queue_refuses_at_once(world: World, limits: dict[str, int]) -> None:
    with recorder(world, **limits) as one, ThreadPoolExecutor(12) as pool:
        with held_up(world):
            asked = [pool.submit(one.submit, call(), [decision(f"n{number}")]) for number in range(12)]
            deadline = time.monotonic() + 5
            while one.metrics()["full"] < 8 and time.monotonic() < deadline:
                time.sleep(0.001)
        outcomes = Counter(outcome(future) for future in asked)
        assert outcomes["Unavailable"] >= 8
        assert sum(stored(world.database).values()) == outcomes["durable"] >= 1


def test_a_thread_with_an_open_transaction_may_not_wait(world: World) -> None:
    with recorder(world) as one, world.database.read(), pytest.raises(RuntimeError):
        one.submit(call(), [decision("n")])


def test_stopping_writes_what_was_taken_and_takes_no_more(world: World) -> None:
    with recorder(world) as one, ThreadPoolExecutor(8) as pool:
        with held_up(world):
            asked = [pool.submit(one.submit, call(), [decision(f"n{number}")]) for number in range(8)]
            queued(one, 8)
            stopper = threading.Thread(target=one.stop)
            stopper.start()
        stopper.join(timeout=30)
        assert [outcome(future) for future in asked] == ["durable"] * 8
        with pytest.raises(Unavailable):
            one.submit(call(), [decision("late")])
    assert set(stored(world.database)) == {f"n{number}" for number in range(8)}


def test_buffered_decisions_do_not_wait_and_what_is_dropped_is_counted(world: World, tmp_path: Path) -> None:
    with recorder(world, tmp_path / "accounts", queue_max=5) as one:
        with held_up(world):
            for number in range(20):
                one.submit_buffered(call(), [decision(f"n{number}")], "expense")
        drained(one)
        one.submit(call(), [decision("later")])
        assert len(stored(world.database)) == 5 + 1
        one.submit_buffered(call(), [decision("last")], "expense")
    assert sum(count for _, count in gaps(world.database)) == 15
    assert settle(world.database, tmp_path / "accounts") == 0
    assert list((tmp_path / "accounts").iterdir()) == []


def test_only_decisions_can_be_buffered(world: World, tmp_path: Path) -> None:
    token = Record(kind="oauth.token.issued", result="success")
    with recorder(world, tmp_path) as one, pytest.raises(ValueError, match="only decisions"):
        one.submit_buffered(call(), [token], "expense")


def test_promises_of_a_process_that_has_gone_are_found_missing(world: World, tmp_path: Path) -> None:
    gone = Buffered(tmp_path)
    gone.promise("expense", 7)
    gone.promise("oa", 2)
    with world.database.write() as connection:
        gone.account(connection, {"expense": 4, "oa": 2})
    assert settle(world.database, tmp_path) == 0, "it lives"
    gone.close()
    assert settle(world.database, tmp_path) == 3
    assert settle(world.database, tmp_path) == 0
    assert gaps(world.database) == [("expense", 3)]


def test_many_records_and_a_very_large_one_are_written_whole(world: World) -> None:
    world.has_made_up_records = True
    large = Record(kind="access.decision.made", result="permit", resource_id="large", data={"text": "字x" * 3_000_000})
    with recorder(world) as one:
        one.submit(call(), [decision(f"n{number}") for number in range(600)])
        one.submit(call(), [large])
    assert stored(world.database) == Counter({**{f"n{number}": 1 for number in range(600)}, "large": 1})
    with world.database.read() as connection:
        sizes = connection.execute(select(func.length(AuditRecord.body)).where(AuditRecord.id == large.id)).scalar_one()
    assert sizes > 12_000_000


def end_backends(database: Database) -> None:
    """Return when the server has ended all other connections of this database."""
    query = (
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with database.engine.connect() as connection:
        assert all(connection.execute(text(query)).scalars())


@contextmanager
def silenced(database: Database) -> Iterator[None]:
    """While open, the backend of the recorder's own connection does not answer."""
    query = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE query LIKE 'INSERT INTO audit_record%unnest%' AND datname = current_database()"
    )
    with database.read() as connection:
        (backend,) = connection.execute(text(query)).scalars()
    os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)


def recovered(one: Recorder, resource: str) -> None:
    """Ask until it is recorded: on a busy machine the first to come may still be too late."""
    told: SimpleQueue[Unavailable | None] = SimpleQueue()
    for _ in range(20):
        one.submit_later(call(), [decision(resource)], told.put)
        if told.get(timeout=60) is None:
            return
    pytest.fail("it does not recover")


def test_a_recorder_whose_connection_was_cut_says_so_and_makes_another(world: World) -> None:
    if world.database.is_sqlite:
        return  # it has none to lose
    with recorder(world) as one:
        one.submit(call(), [decision("before")])
        end_backends(world.database)
        with pytest.raises(Unavailable):
            one.submit(call(), [decision("cut")])
        one.submit(call(), [decision("after")])
    assert stored(world.database) == Counter({"before": 1, "after": 1})


def test_a_database_that_does_not_answer_is_given_up_and_who_came_meanwhile_is_recorded(world: World) -> None:
    if world.database.is_sqlite:
        return  # there is nobody to fall silent
    told: SimpleQueue[tuple[str, Unavailable | None]] = SimpleQueue()
    with recorder(world, wait_s=6.0) as one:
        one.submit(call(), [decision("before")])
        with silenced(world.database):
            one.submit_later(call(), [decision("silent")], lambda error: told.put(("silent", error)))
            time.sleep(4)
            one.submit_later(call(), [decision("meanwhile")], lambda error: told.put(("meanwhile", error)))
            answers = dict(told.get(timeout=60) for _ in range(2))
        assert isinstance(answers["silent"], Unavailable)
        assert answers["meanwhile"] is None
    assert told.empty(), "once each"
    assert stored(world.database)["meanwhile"] == 1


def test_who_is_told_later_is_told_in_time_whatever_the_writer_waits_for(world: World) -> None:
    told: SimpleQueue[Unavailable | None] = SimpleQueue()
    with recorder(world, wait_s=0.5) as one:
        recovered(one, "before")
        with held_up(world):
            for number in range(3):
                one.submit_later(call(), [decision(f"slow{number}")], told.put)
            assert [type(told.get(timeout=60)) for _ in range(3)] == [Unavailable] * 3
        recovered(one, "after")
    assert told.empty(), "once each"
