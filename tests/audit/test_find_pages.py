"""A search looks through a bounded number of rows and says where it stopped; together its pages are what a plain
filter finds.

That no row is lost or doubled is tried on made-up records with searches of every shape, small pages and small bounds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from identity.audit.index import index_new
from identity.audit.models import AuditFind, AuditWord
from identity.audit.query import Filter, Key, Page, ids, search
from identity.core.record import Actor, Record
from tests.world import World

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)
UNITS = 30
PERSONS = tuple(UUID(int=(0x019A << 112) | n) for n in range(3))
APPLICATIONS, KINDS = ("expense", "oa", "erp"), ("people.user.changed", "people.user.created")
RESULTS, REASONS = ("success", "permit", "deny", "failed"), ("", "scope", "limit")
OBJECTS = ("bx", "alpha", "u1")
# More words begin with "batch" than are looked up one by one; some records are found by object and by word.
WORDS = ("alpha", "alps", "beta", "bx", "出纳", *(f"batch{n:02}" for n in range(24)))
TEXTS = ("alpha", "beta", "bx", "出纳", "batch07", "nothing", "al*", "a*", "b*", "batch*", "nothing*", "出*")


@dataclass(frozen=True)
class Stored:
    """An index row as it stands in the tables, with its words."""

    row: Any
    words: frozenset[str]

    @property
    def key(self) -> Key:
        return self.row.at, self.row.record_id, self.row.item


@pytest.fixture
def many(world: World) -> World:
    """Records of every combination, several at one time, batches with items among them."""
    world.has_made_up_records = True
    chance = random.Random(11)
    for number in range(UNITS):
        reason = " ".join([*chance.sample(WORDS, chance.randrange(4)), *chance.choice(((), ("beta",)))])
        with world.units.open(Actor.system("test"), now=START + number * STEP, request_id=f"r{number % 7}") as unit:
            unit.reason = reason or None
            for _ in range(chance.randrange(1, 5)):
                unit.record(_made_up(chance))
    index_new(world.database, datetime.now(UTC))
    return world


def _made_up(chance: random.Random) -> Record:
    items = [
        {"resource_id": chance.choice(OBJECTS), "result": chance.choice(RESULTS), "reason": chance.choice(REASONS)}
        for _ in range(chance.choice((0, 0, 0, 2)))
    ]
    return Record(
        kind=chance.choice(KINDS),
        result=chance.choice(RESULTS),  # type: ignore[arg-type]
        reason=chance.choice(REASONS),
        person=chance.choice((None, *PERSONS)),
        application=chance.choice((None, *APPLICATIONS)),
        resource_id=chance.choice((None, *OBJECTS)),
        data={"items": items} if items else {},
        personal=chance.choice(({}, {}, {"mail": f"{chance.choice(WORDS)}@example.com"})),
    )


def stored(world: World) -> list[Stored]:
    """All rows, newest first."""
    with world.database.read() as connection:
        words: dict[Key, set[str]] = {}
        for word, at, record_id, item in connection.execute(select(AuditWord.__table__)):
            words.setdefault((at, record_id, item), set()).add(word)
        rows = connection.execute(select(AuditFind.__table__)).all()
    found = [Stored(row, frozenset(words.get((row.at, row.record_id, row.item), ()))) for row in rows]
    return sorted(found, key=lambda one: one.key, reverse=True)


def fits(one: Stored, wanted: Filter) -> bool:
    """Whether the row matches, told in the plainest way."""
    row, text = one.row, wanted.text
    equal = ("person", "application", "resource_id", "kind", "result", "reason", "request_id")
    if any(getattr(wanted, name) is not None and getattr(row, name) != getattr(wanted, name) for name in equal):
        return False
    if (wanted.since and row.at < wanted.since) or (wanted.until and row.at >= wanted.until):
        return False
    if wanted.without_permits_of and row.application == wanted.without_permits_of and row.result == "permit":
        return False
    if text is None or row.resource_id == text:
        return True
    return all(
        any(word.startswith(part[:-1]) for word in one.words) if part.endswith("*") else part in one.words
        for part in text.split()
    )


def pages(world: World, wanted: Filter, limit: int, parts: tuple[int, ...]) -> Iterator[Page]:
    after = None
    while True:
        with world.database.read() as connection:
            page = search(connection, wanted, after, limit, parts)
        yield page
        after = page.next
        if after is None:
            return


def maybe(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from((None,) * 4 * len(values) + values)


FILTERS = st.builds(
    Filter,
    person=maybe(*PERSONS),
    application=maybe(*APPLICATIONS, "none"),
    resource_id=maybe(*OBJECTS),
    kind=maybe(*KINDS),
    result=maybe(*RESULTS),
    reason=maybe(*REASONS[1:], "unknown"),
    request_id=maybe("r1", "r2"),
    since=maybe(START + 5 * STEP),
    until=maybe(START + 20 * STEP),
    text=st.one_of(st.none(), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(" ".join)),
    without_permits_of=maybe(*APPLICATIONS),
)
BOUNDS = st.sampled_from(((1, 2), (2, 3, 4), (7, 20), (1_000, 8_000)))


def test_all_pages_together_are_what_a_plain_filter_finds(many: World) -> None:
    rows = stored(many)

    # Rows with two words that begin so: of few endings, and of many.
    @example(Filter(text="al*"), 2, (1_000, 8_000))
    @example(Filter(text="b*"), 2, (1_000, 8_000))
    @given(FILTERS, st.integers(1, 9), BOUNDS)
    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def holds(wanted: Filter, limit: int, parts: tuple[int, ...]) -> None:
        expected = [one.key for one in rows if fits(one, wanted)]
        found: list[Key] = []
        for page in pages(many, wanted, limit, parts):
            keys = [(row.at, row.id, row.item) for row in page.rows]
            found += keys
            assert len(keys) <= limit
            # What the page says: all that matches down to this key has been told.
            assert found == [key for key in expected if page.next is None or key >= page.next]
            if page.searched_to is None:
                assert page.next is None or (len(keys) == limit and page.next == keys[-1])
            else:
                assert parts[0] < len(rows), "it need not have stopped"
                assert page.next is not None
                assert page.searched_to == page.next[0]
        assert found == expected
        with many.database.read() as connection:
            assert ids(connection, wanted, 1_000, parts) == list(dict.fromkeys(key[1] for key in expected))

    holds()


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(application="expense", reason="unknown"),
        Filter(request_id="unknown"),
        Filter(result="success", reason="unknown"),
        Filter(text="beta", request_id="unknown"),
        Filter(text="b*", request_id="unknown"),
        Filter(text="al*", request_id="unknown"),
        Filter(kind=KINDS[0], application="expense", person=PERSONS[0], request_id="unknown"),
    ],
    ids=lambda one: "+".join(field.name for field in fields(one) if getattr(one, field.name) is not None),
)
def test_a_search_for_what_is_not_there_stops_after_its_bound_and_says_so(many: World, wanted: Filter) -> None:
    found = list(pages(many, wanted, 5, (1, 3)))
    assert not any(page.rows for page in found)
    times = [page.searched_to for page in found[:-1]]
    assert len(times) > 1
    assert times == sorted(filter(None, times), reverse=True)
    assert found[-1].searched_to is None
    assert [page.next for page in pages(many, wanted, 5, (1_000,))] == [None]


def test_what_an_index_gives_alone_is_one_page(many: World) -> None:
    for wanted in (Filter(), Filter(person=PERSONS[0]), Filter(kind=KINDS[0], since=START), Filter(result="deny")):
        [page] = pages(many, wanted, 200, (1,))
        assert page.rows
        assert page.searched_to is None
