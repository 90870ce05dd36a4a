"""What must hold when other rules come into force, looked at on every path before the commit.

A second person has agreed to exactly these rules, where the installation asks for it; and every administrator can
still act under them.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from identity.access import duties
from identity.access.console import BUILT_IN_PERMISSIONS, SECURITY_ADMIN
from identity.core.errors import Conflict, Refused
from identity.core.facts import known
from identity.core.unit import Unit, Watch
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.models import PolicyInForce
from identity.roles.models_drafts import PolicyDraft
from identity.roles.service_policy import digest
from identity.roles.service_second_person import is_required
from policies import ANYWHERE, Action, Engine, Grant, Permission, Request, Resource


def watching(*, demo: bool) -> Watch:
    """The watch of this installation: separated duties, and what is here."""

    def watch(unit: Unit, revision: int) -> None:
        if "policy" in unit.facts.touched:
            _check(unit, revision, demo=demo)
        duties.watch(unit, revision)

    return watch


def _check(unit: Unit, revision: int, *, demo: bool) -> None:
    connection = unit.db.connection()
    before, after = (_in_force(connection, one) for one in (revision - 1, revision))
    if after is None or before == after:
        return
    content = rules.load(connection, after)
    blocked = blocked_administrators(content, unit)
    if SECURITY_ADMIN in {one.role for one in blocked}:
        raise Conflict("No security administrator could act any more.", code="last_security_admin")
    if blocked:
        raise Conflict("An administrator could not act any more.", code="administrator_blocked")
    # The first rules of an empty installation have nobody yet who could agree to them.
    if before is not None and is_required(connection, demo=demo) and not _is_agreed(unit, after, content):
        raise Refused("A second person must publish the rules.", code="second_person")


def _in_force(connection: Connection, revision: int) -> int | None:
    query = select(PolicyInForce.version).where(known(PolicyInForce, revision))
    return connection.execute(query).scalar_one_or_none()


def _is_agreed(unit: Unit, version: int, content: RuleSetInput) -> bool:
    """Whether a draft says that two persons want these very rules, the second of them in this very Unit."""
    draft = (
        unit.db.connection()
        .execute(select(PolicyDraft.__table__).where(PolicyDraft.version == version, PolicyDraft.state == "published"))
        .first()
    )
    if draft is None or draft.proposed_by is None or draft.decided_by is None or draft.decided_at != unit.now:
        return False
    others = {str(draft.proposed_by), *draft.writers}
    return str(draft.decided_by) not in others and draft.digest == digest(content)


def blocked_administrators(content: RuleSetInput, unit: Unit) -> list[Permission]:
    """Built-in rights of the console that somebody who holds their role would not have under these rules.

    Only the engine's duties can take them; permissions of the console are built in, and nobody else's role has any.
    """
    engine = Engine(
        rules.rule_set(content.model_copy(update={"permissions": (), "mappings": ()}), 0, BUILT_IN_PERMISSIONS)
    )
    found = []
    for one in BUILT_IN_PERMISSIONS:
        holder = engine.subject("holder", "holder", grants=(Grant(one.role, ANYWHERE, None, None, None, "check"),))
        resource = Resource(one.application, one.resource_type, "page", {})
        asked = [
            Request(holder, Action(one.action, {}), resource, {}, unit.now, intent=intent)
            for intent in ("ask", "perform")
        ]
        if not all(engine.evaluate(request).permit for request in asked):
            found.append(one)
    return found
