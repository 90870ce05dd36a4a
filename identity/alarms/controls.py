"""Mitigating controls that are made use of: who may join separated duties, and now does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, and_, or_, select

from identity.access.subject import load_rules
from identity.audit.kinds import Kind
from identity.audit.models import AuditFind
from identity.audit.query import bodies
from identity.roles.inputs import RuleSetInput
from identity.roles.models import Mitigation
from identity.roles.rules import row_id

RECORDS_MAX = 20_000
RECORDS_AT_ONCE = 200

_log = logging.getLogger(__name__)


class Used(NamedTuple):
    """Under this control (`mitigation`) the person performed these duties of the rule, so many acts."""

    mitigation: UUID
    person: UUID
    rule: str
    duties: tuple[str, ...]
    acts: int


class _Sides:
    """Which duties of which static rule an act belongs to: by the role whose permission let it through, or by a right
    that the rule names itself."""

    def __init__(self, content: RuleSetInput) -> None:
        self._roles = {row_id(one): one.role for one in content.permissions}
        self._duties = {one.id: one.definition for one in content.duties if one.kind == "static"}

    def of(self, rule: str, act: Mapping[str, Any], application: str | None) -> Iterator[str]:
        definition = self._duties.get(rule, {})
        roles = {self._roles[one] for one in act.get("rules") or () if one in self._roles}
        yield from (role for role in definition.get("roles", ()) if role in roles)
        right = [application, act.get("resource_type"), act.get("action")]
        for side in definition.get("sides", ()):
            if roles & set(side.get("roles", ())) or right in [list(one) for one in side.get("permissions", ())]:
                yield ", ".join((*side.get("roles", ()), *(":".join(one) for one in side.get("permissions", ()))))


def used(connection: Connection, since: datetime, until: datetime) -> Iterator[Used]:
    """The controls in force at `until` whose persons performed duties of their rule with since <= at < until."""
    query = select(Mitigation.__table__).where(Mitigation.rev_until.is_(None))
    controls = [
        row
        for row in connection.execute(query)
        if (row.valid_from is None or row.valid_from <= until) and (row.valid_until is None or until < row.valid_until)
    ]
    if not controls:
        return
    sides = _Sides(load_rules(connection)[1])
    for row in controls:
        acts = list(_acts(connection, row.person_id, since, until))
        duties = [found for application, act in acts if (found := tuple(sides.of(row.rule_id, act, application)))]
        if duties:
            names = tuple(sorted({name for found in duties for name in found}))
            yield Used(row.id, row.person_id, row.rule_id, names, len(duties))


def _acts(
    connection: Connection, person: UUID, since: datetime, until: datetime
) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """What the person performed with permission, alone or in a batch: its application, and the decision's fields."""
    find = AuditFind
    rows = connection.execute(
        select(find.retention_class, find.at, find.record_id, find.item)
        .where(
            find.person == person,
            find.at >= since,
            find.at < until,
            # Item 0 of a batch is the batch itself.
            or_(find.kind == Kind.DECISION_MADE, and_(find.kind == Kind.DECISIONS_MADE, find.item > 0)),
            find.result == "permit",
        )
        .order_by(find.at.desc())
        .limit(RECORDS_MAX)
    ).all()
    if len(rows) == RECORDS_MAX:
        _log.warning("person %s: only the newest %s permitted decisions are looked at", person, RECORDS_MAX)
    numbers: dict[tuple[str, datetime, UUID], list[int]] = {}
    for retention_class, at, record_id, item in rows:
        numbers.setdefault((retention_class, at, record_id), []).append(item)
    keys = list(numbers)
    for start in range(0, len(keys), RECORDS_AT_ONCE):
        chunk = keys[start : start + RECORDS_AT_ONCE]
        stored = bodies(connection, chunk)
        for key in chunk:
            body = orjson.loads(stored.get(key[2]) or b"{}")
            items = body.get("data", {}).get("items", ())
            acts = [items[number - 1] if number else body for number in numbers[key]] if body else []
            yield from ((body.get("application"), act) for act in acts if act.get("intent") == "perform")
