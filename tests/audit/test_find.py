"""What is recorded can be found: by word, by the beginning of one, by Chinese characters, by object, page by page."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from identity.audit import index
from identity.audit.models import AuditFind
from identity.audit.query import Filter, search
from identity.core.errors import Stale
from identity.core.record import Actor, Record
from tests.world import World

NOW = datetime.now(UTC)


def leave(
    world: World, resource: str, reason: str | None = None, kind: str = "people.user.changed", **more: Any
) -> None:
    """A record of this object, and the index made of it."""
    world.has_made_up_records = True
    with world.units.open(Actor.system("test"), reason=reason) as unit:
        unit.record(Record(kind=kind, result=more.pop("result", "success"), resource_id=resource, **more))
    index.index_new(world.database, NOW)


def found(world: World, text: str | None = None, **more: Any) -> list[str]:
    with world.database.read() as connection:
        page = search(connection, Filter(text=text, **more), limit=200)
    return [str(row.resource_id) for row in page.rows]


@pytest.fixture
def filed(world: World) -> World:
    """Three records with reasons, and a decision."""
    leave(world, "u1", "Transfer of Zhangsan to Shanghai", data={"title": "财务共享中心主管"})
    leave(world, "u2", "Transfer of Zhang to Suzhou", personal={"mail": "zhang@example.com"})
    leave(world, "u3", "变更单 CHG-2026-118：出纳轮岗")
    leave(world, "BX-2026/7", kind="access.decision.made", result="deny", reason=None)
    return world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("transfer", ["u2", "u1"]),
        ("TRANSFER Suzhou", ["u2"]),
        ("shanghai suzhou", []),
        ("zhang", ["u2"]),
        ("zhang*", ["u2", "u1"]),
        ("zhangs* transfer", ["u1"]),
        ("trans* zhang*", ["u2", "u1"]),
        ("zhangsan", ["u1"]),
        ("zh", []),
        ("财务", ["u1"]),
        ("共享中心", ["u1"]),
        ("轮岗", ["u3"]),
        ("主管 transfer", ["u1"]),
        ("chg 118", ["u3"]),
        ("example.com", ["u2"]),
        ("BX-2026/7", ["BX-2026/7"]),
        ("！", []),
    ],
)
def test_a_text_is_found_by_its_words(filed: World, text: str, expected: list[str]) -> None:
    assert found(filed, text) == expected


def test_a_text_narrows_what_the_other_fields_find(filed: World) -> None:
    assert found(filed, "transfer", resource_id="u1") == ["u1"]
    assert found(filed, "transfer", kind="people.user.created") == []
    assert found(filed, "transfer", until=NOW - timedelta(days=1)) == []
    assert found(filed, "transfer", since=NOW - timedelta(days=1), result="success") == ["u2", "u1"]
    assert found(filed, result="deny") == ["BX-2026/7"]
    assert found(filed, "BX-2026/7", resource_id="u1") == []


def test_an_object_id_longer_than_an_index_takes_is_found_and_holds_nothing_up(world: World) -> None:
    # Random characters of three bytes: no compression makes a key of them short enough.
    chance = random.Random(5)
    name = "".join(chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(1_024))
    leave(world, name)
    leave(world, "after")
    assert len(found(world, kind="people.user.changed")) == 2
    assert found(world, resource_id=name) == found(world, name) == [name[:600]]


def test_a_beginning_with_very_many_endings_is_found_whole(world: World) -> None:
    for number in range(index.SQLITE_CHUNK // 10):
        leave(world, f"u{number}", f"Batch{number:03}")
    assert sorted(found(world, "batch*")) == sorted(f"u{number}" for number in range(index.SQLITE_CHUNK // 10))
    assert found(world, "batch017") == ["u17"]


def test_pages_follow_each_other_without_gap_or_double(world: World) -> None:
    for number in range(7):
        leave(world, f"u{number}", "the same reason")
    pages, after = [], None
    while True:
        with world.database.read() as connection:
            page = search(connection, Filter(text="same"), after, limit=3)
        pages.append([row.resource_id for row in page.rows])
        after = page.next
        if after is None:
            break
    assert pages == [["u6", "u5", "u4"], ["u3", "u2", "u1"], ["u0"]]


def test_a_batch_is_found_by_each_of_its_items(world: World) -> None:
    item = {"resource_type": "claim", "action": "read", "result": "deny", "reason": "scope"}
    items = [{**item, "resource_id": f"BX-{n}", "person": "019a214b-7634-7c77-a697-1bf371d903ca"} for n in range(3)]
    leave(world, "", kind="access.decisions.made", result="deny", data={"items": items})
    assert found(world, "BX-1") == ["BX-1"]
    with world.database.read() as connection:
        rows = connection.execute(
            select(AuditFind.item, AuditFind.resource_id, AuditFind.action, AuditFind.reason)
            .where(AuditFind.kind == "access.decisions.made", AuditFind.item > 0)
            .order_by(AuditFind.item)
        ).all()
    assert [tuple(row) for row in rows] == [(n + 1, f"BX-{n}", "read", "scope") for n in range(3)]


def test_finders_at_once_index_nothing_twice_and_miss_nothing(world: World) -> None:
    """One that read what another has indexed since gives up, and tries again when it is next due."""
    world.has_made_up_records = True

    def run(_: int) -> None:
        with suppress(Stale):
            index.index_new(world.database, NOW)

    with ThreadPoolExecutor(8) as pool:
        for number in range(30):
            with world.units.open(Actor.system("test"), reason="Twice") as unit:
                unit.record(Record(kind="people.user.changed", result="success", resource_id=f"u{number}"))
            list(pool.map(run, range(8)))
    run(0)
    assert sorted(found(world, "twice")) == sorted(f"u{number}" for number in range(30))


def test_a_pages_records_are_read_by_their_keys(filed: World) -> None:
    """SQLite would read the whole table for a list of keys, unless each is written out."""
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        asked.append((statement, values))

    event.listen(filed.database.engine, "before_cursor_execute", note)
    assert len(found(filed, "transfer")) == 2
    event.remove(filed.database.engine, "before_cursor_execute", note)
    of_records = [one for one in asked if "FROM audit_record" in one[0] or "FROM audit_personal" in one[0]]
    assert len(of_records) == 2
    if filed.database.is_sqlite:
        with filed.database.read() as connection:
            for statement, values in of_records:
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
                assert not any("SCAN" in step for step in plan), plan
