"""Who had what on a day, as the console and the command line ask it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from identity.access.past import Past, at_day, way
from identity.access.replay import identities_of
from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.service import find_user_by_login
from policies import Grant


@dataclass(frozen=True, slots=True)
class Asked:
    """The end of `day` in the organisation's zone; of one person (by login), application or role, or of all."""

    day: date
    person: str = ""
    application: str = ""
    role: str = ""
    as_known_today: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """A user held a role; `steps` led to it."""

    user_id: UUID
    person_id: UUID
    login: str
    grant: Grant
    steps: tuple[str, ...]


def parse_date(text: str) -> date:
    """A day such as 2026-03-31; raises `Invalid`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  a day has no zone
    except ValueError:
        raise Invalid("A date is written as 2026-12-31.", code="date") from None


def look_up(unit: Unit, asked: Asked, zone: ZoneInfo) -> tuple[Past, list[Holding]]:
    """What was held, by login and role; the look is recorded. Raises `NotFound` for an unknown person and for a day
    before the first facts, `Invalid` for a day to come."""
    unit.require("read", "role", "holdings")
    users = None
    connection = unit.db.connection()
    if asked.person:
        user = find_user_by_login(unit, asked.person)
        if user is None:
            raise NotFound("There is no such user.")
        users = identities_of(connection, [user.id])
    past = at_day(connection, asked.day, zone, unit.now, as_known_today=asked.as_known_today, users=users)
    rows = sorted(_found(past, asked), key=lambda one: (one.login, one.grant.role, one.steps))
    narrowed = {"person": asked.person, "application": asked.application, "role": asked.role}
    unit.record(
        Record(
            kind=Kind.HOLDINGS_READ,
            result="success",
            resource_type="role",
            resource_id=asked.role or None,
            data={
                "day": asked.day.isoformat(),
                "as_known_today": asked.as_known_today,
                "rows": len(rows),
                **{name: value for name, value in narrowed.items() if value},
            },
        )
    )
    return past, rows


def _found(past: Past, asked: Asked) -> Iterator[Holding]:
    for user, grant, steps in past.holdings():
        if asked.application and grant.role.partition(":")[0] != asked.application:
            continue
        if asked.role and grant.role != asked.role:
            continue
        yield Holding(user.id, user.person_id, user.login, grant, steps)


COLUMNS = (
    *("Person", "Login", "Application", "Role", "Company", "Unit", "Business type"),
    *("Limit", "Valid from", "Valid until", "Origin"),
)
"""Message ids of the columns; they are those of the report about people and their roles."""


def line(one: Holding, names: Mapping[UUID, str]) -> tuple[Any, ...]:
    """The row of a file."""
    grant = one.grant
    application, _, role = grant.role.partition(":")
    return (
        *(names.get(one.person_id, ""), one.login, application, role, *grant.scope),
        *(grant.limit, grant.valid_from, grant.valid_until, way(one.steps, grant.role)),
    )
