"""Rows written in bulk are read as they were given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from identity.core.bulk import insert_rows, new_keys
from identity.core.secrets import new_id
from identity.directory.models import DirectorySource
from identity.people.models import Person, PersonProfile, SourceAccount, User
from tests.world import World

TEXTS = ("plain", "", r"\N", r"\.", "back\\slash\\", "a\tb\nc\rd", "\\t", "汉字 😀", 'quo"te', " x ")
WHEN = datetime(2026, 3, 31, 23, 59, 59, 123_456, tzinfo=timezone(timedelta(hours=8)))


def test_every_text_time_and_document_comes_back(database_url: str, tmp_path: Path) -> None:
    world = World(database_url, tmp_path)
    people = [new_id() for _ in TEXTS]
    with world.unit() as unit:
        source = DirectorySource(code="x", name="x", kind="ldif", settings={"path": "x"}, created_at=unit.now)
        unit.db.add(source)
        unit.db.flush()
        connection = unit.db.connection()
        insert_rows(connection, Person, [{"id": one, "created_at": WHEN} for one in people])
        empty = dict.fromkeys(("family_name", "given_name", "mail", "phone", "locale", "erased_at"))
        profiles: list[dict[str, Any]] = [
            {"person_id": one, "name": text, **empty} for one, text in zip(people, TEXTS, strict=True)
        ]
        # The order of a row's columns says nothing.
        insert_rows(connection, PersonProfile, [profiles[0], *(dict(reversed(one.items())) for one in profiles[1:])])
        users = [
            {"id": one, "person_id": one, "sub": one, "login": text, "login_key": f"{n}", "created_at": WHEN}
            for n, (one, text) in enumerate(zip(people, TEXTS, strict=True))
        ]
        insert_rows(connection, User, users)
        common = {"source_id": source.id, "status": "present", "disabled": True, "missing_since": None}
        accounts = [
            {**common, "id": key, "user_id": one, "immutable_id": text, "dn": text, "last_seen_at": WHEN, "seen": seen}
            for key, one, text, seen in zip(
                new_keys(len(people)), people, TEXTS, [*({"said": text} for text in TEXTS[1:]), None], strict=True
            )
        ]
        insert_rows(connection, SourceAccount, accounts)
    with world.unit() as unit:
        names = dict(unit.db.execute(select(PersonProfile.person_id, PersonProfile.name)).all())
        rows = unit.db.execute(select(SourceAccount).order_by(SourceAccount.user_id)).scalars().all()
        created = set(unit.db.execute(select(Person.created_at).where(Person.id.in_(people))).scalars())
        assert {names[one] for one in people} == set(TEXTS)
        assert [names[one] for one in people] == list(TEXTS)
        assert [(row.immutable_id, row.dn) for row in rows] == [(text, text) for text in TEXTS]
        assert [row.seen for row in rows] == [*({"said": text} for text in TEXTS[1:]), None]
        assert {(row.disabled, row.missing_since, row.last_seen_at) for row in rows} == {(True, None, WHEN)}
        assert len({row.id for row in rows}) == len(rows)
        assert created == {WHEN}
    with pytest.raises(ValueError, match="zone"), world.unit() as unit:
        insert_rows(unit.db.connection(), Person, [{"id": new_id(), "created_at": WHEN.replace(tzinfo=None)}])
    with pytest.raises(IntegrityError), world.database.write() as connection:
        insert_rows(connection, Person, [{"id": people[0], "created_at": datetime.now(UTC)}])
    world.close()
