"""What the database itself refuses, and where the rows lie."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from identity.core import migrate
from identity.core.record import Record
from identity.core.secrets import new_id
from tests.world import World

LEAF = """
INSERT INTO audit_leaf (seq, "class", at, record_id, leaf_hash)
SELECT 0, "class", at, id, body FROM audit_record LIMIT 1
"""
HEAD = """
INSERT INTO audit_head (size, root, at, kid, signature) SELECT 1, body, at, 'k', body FROM audit_record LIMIT 1
"""
CHANGES = {
    "audit_record": "at = at",
    "audit_personal": "value = field",
    "audit_leaf": "seq = 9",
    "audit_head": "size = 9",
}
NEXT_YEAR = datetime(2031, 5, 6, tzinfo=UTC)


def recorded(world: World) -> UUID:
    """A record of class `change` with one personal value."""
    record = Record(kind="people.user.created", result="success", personal={"login": "zhang"})
    with world.unit() as unit:
        unit.record(record)
    return record.id


def refused(world: World, statement: str) -> bool:
    try:
        with world.database.engine.connect() as connection:
            connection.execute(text(statement))
            connection.commit()
    except DBAPIError as error:
        return "append-only" in str(error) or "redaction only" in str(error)
    return False


@pytest.mark.parametrize("table", ["audit_record", "audit_personal", "audit_leaf", "audit_head"])
def test_au_01_the_database_refuses_to_change_what_is_recorded(world: World, table: str) -> None:
    recorded(world)
    with world.database.write() as connection:
        connection.execute(text(LEAF))
        connection.execute(text(HEAD))
    change = {
        "audit_record": "at = at",
        "audit_personal": "value = field",
        "audit_leaf": "seq = 9",
        "audit_head": "size = 9",
    }
    assert refused(world, f"UPDATE {table} SET {change[table]}")
    assert refused(world, f"DELETE FROM {table}")
    if not world.database.is_sqlite:
        assert refused(world, f"TRUNCATE {table}")


def test_au_01_a_partition_is_guarded_as_its_table_is(world: World) -> None:
    recorded(world)
    if world.database.is_sqlite:
        return
    for part in partitions(world):
        assert refused(world, f"TRUNCATE {part}")
    assert refused(world, f"DELETE FROM audit_record_change_{datetime.now(UTC):%Y_%m}")


def test_a_personal_value_can_be_erased_and_nothing_else(world: World) -> None:
    record_id = recorded(world)
    key = f"record_id = '{record_id.hex if world.database.is_sqlite else record_id}'"
    assert refused(world, f"UPDATE audit_personal SET value = 'other' WHERE {key}")
    assert refused(world, f"UPDATE audit_personal SET value = NULL, field = 'x' WHERE {key}")
    nothing = "x''" if world.database.is_sqlite else "''::bytea"
    assert not refused(world, f"UPDATE audit_personal SET value = NULL, salt = {nothing} WHERE {key}")
    assert refused(world, f"UPDATE audit_personal SET value = 'back' WHERE {key}")


def test_a_head_is_anchored_once(world: World) -> None:
    recorded(world)
    with world.database.write() as connection:
        connection.execute(text(HEAD))
    assert not refused(world, "UPDATE audit_head SET anchored_at = at")
    assert refused(world, "UPDATE audit_head SET anchored_at = NULL")


def test_a_record_of_a_month_without_partition_is_kept_and_moved_when_the_month_is_made(world: World) -> None:
    world.has_made_up_records = True
    if world.database.is_sqlite:
        return
    late = new_id()
    with world.database.engine.begin() as connection:
        now = connection.execute(text("SELECT date_trunc('month', now()) + interval '7 months'")).scalar_one()
        insert = 'INSERT INTO audit_record ("class", at, id, body) VALUES (:class, :at, :id, :body)'
        for kind, at in (("login", now), ("unheard_of", now), ("login", NEXT_YEAR)):
            one = late if (kind, at) == ("login", now) else new_id()
            connection.execute(text(insert), {"class": kind, "at": at, "id": one, "body": b"{}"})
        before = place(connection, late)
        assert before[0] == "audit_record_login_rest"
    with world.database.engine.begin() as connection:
        assert connection.execute(text("SELECT audit_make_partitions(8)")).scalar_one() > 0
        assert place(connection, late) == (f"audit_record_login_{now:%Y_%m}", before[1])
    with world.database.engine.begin() as connection:
        assert connection.execute(text("SELECT audit_make_partitions(8)")).scalar_one() == 0


def test_down_and_up_again_keeps_the_records(world: World) -> None:
    record_id = recorded(world)
    migrate.downgrade(world.database.engine, "0004_search")
    migrate.upgrade(world.database.engine)
    with world.database.engine.connect() as connection:
        count = text("SELECT count(*) FROM audit_record r JOIN audit_personal p ON p.record_id = r.id")
        assert connection.execute(count).scalar_one() >= 1
        assert record_id


def place(connection: Connection, record_id: UUID) -> tuple[str, str]:
    """The partition that holds the record, and the transaction that wrote it."""
    query = "SELECT tableoid::regclass::text, xid::text FROM audit_record WHERE id = :id"
    name, xid = connection.execute(text(query), {"id": record_id}).one()
    return name, xid


def partitions(world: World) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE 'audit_%'"
    with world.database.engine.connect() as connection:
        return list(connection.execute(text(query)).scalars())
