"""A search handed over as a file: nothing is left out, and JSON lines are the stored bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from identity.audit import export
from identity.audit.csv import BOM
from identity.audit.index import index_new
from identity.audit.models import AuditRecord
from identity.audit.query import Filter, ids
from identity.audit.saved import forget_search, save_search, saved_searches
from identity.core.errors import Invalid, NotFound
from identity.core.record import Actor
from tests.world import World


@pytest.fixture
def busy(world: World) -> World:
    person = world.person("zhang", "staff")
    for number in range(230):
        world.decide(person, "read", f"bx-{number}")
    index_new(world.database, datetime.now(UTC))
    return world


def test_csv_has_a_row_for_each_record_across_pages(busy: World) -> None:
    file = io.BytesIO()
    with busy.database.read() as connection:
        done = export.write_csv(connection, Filter(kind="access.decision.made"), file, UTC)
    text = file.getvalue().decode()
    rows = list(csv.DictReader(io.StringIO(text.removeprefix(BOM), newline="")))
    assert len(rows) == done.rows == 230
    assert {row["Object"] for row in rows} == {f"bx-{number}" for number in range(230)}
    assert done.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    assert done.complete_to is not None


def test_the_records_of_a_pack_are_all_that_the_search_finds_across_pages(busy: World) -> None:
    with busy.database.read() as connection:
        found = ids(connection, Filter(kind="access.decision.made", application="expense"), 1_000)
        first = ids(connection, Filter(kind="access.decision.made", application="expense"), 210)
    assert len(set(found)) == len(found) == 230
    assert first == found[:210]


def test_json_lines_are_the_bytes_that_were_hashed(busy: World) -> None:
    file = io.BytesIO()
    with busy.database.read() as connection:
        done = export.write_json_lines(connection, Filter(), file)
        stored = {bytes(body) for body in connection.execute(select(AuditRecord.body)).scalars()}
    assert set(file.getvalue().splitlines()) == stored
    assert done.rows == len(stored)


def test_an_export_that_is_too_large_is_refused(busy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROWS_MAX", 229)
    with busy.database.read() as connection, pytest.raises(Invalid, match="narrow"):
        export.write_csv(connection, Filter(kind="access.decision.made"), io.BytesIO(), UTC)


def test_saved_searches_are_ones_own_or_shared(world: World) -> None:
    mine, other = world.person("zhang"), world.person("li")
    me, them = Actor.system("a"), Actor.system("b")
    me, them = (Actor("system", one.id, one.id, user=user) for one, user in ((me, mine), (them, other)))
    with world.units.open(me) as unit:
        save_search(unit, "denied", {"result": "deny", "surprise": "x"}, shared=False)
        save_search(unit, "zhang", {"person": "zhang"}, shared=True)
        assert [one.query for one in saved_searches(unit)] == [{"result": "deny"}, {"person": "zhang"}]
    with world.units.open(them) as unit:
        [shared] = saved_searches(unit)
        with pytest.raises(NotFound):
            forget_search(unit, shared.id)
        for name, query in (("", {"q": "x"}), ("x", {}), ("x" * 101, {"q": "x"})):
            with pytest.raises(Invalid):
                save_search(unit, name, query, shared=False)
    with world.units.open(me) as unit:
        save_search(unit, "denied", {"result": "refused"}, shared=True)
        assert len(saved_searches(unit)) == 2
        forget_search(unit, shared.id)
        assert [one.name for one in saved_searches(unit)] == ["denied"]
