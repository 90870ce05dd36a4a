"""Mitigating controls that are made use of: who may join separated duties, and now does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, select

from identity.access.subject import load_rules
from identity.audit.kinds import Kind
from identity.audit.models import AuditFind, AuditRecord
from identity.roles.inputs import RuleSetInput
from identity.roles.models import Mitigation
from identity.roles.rules import row_id

RECORDS_MAX = 20_000


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
    rows = connection.execute(
        select(AuditRecord.body, AuditFind.item)
        .join(
            AuditFind,
            (AuditRecord.retention_class == AuditFind.retention_class)
            & (AuditRecord.at == AuditFind.at)
            & (AuditRecord.id == AuditFind.record_id),
        )
        .where(
            AuditFind.person == person,
            AuditFind.at >= since,
            AuditFind.at < until,
            AuditFind.kind.in_((Kind.DECISION_MADE, Kind.DECISIONS_MADE)),
            AuditFind.result == "permit",
        )
        .order_by(AuditFind.at.desc())
        .limit(RECORDS_MAX)
    )
    for raw, number in rows:
        body = orjson.loads(bytes(raw))
        items = body.get("data", {}).get("items")
        # The index counts the items of a batch from 1; 0 is the batch itself.
        acts = [body] if items is None else items[number - 1 : number] if number else []
        yield from ((body.get("application"), act) for act in acts if act.get("intent") == "perform")
