"""`flask --app wsgi identity explain`: why somebody may or may not do something, now or as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import click
import orjson
from flask.cli import with_appcontext

from identity.access.ask import put
from identity.access.decide import Access
from identity.access.explain import Duty, Explanation, Missing, Step, Way, explain, explain_record, read_record
from identity.api.explanation import as_data
from identity.console import words
from identity.console.present import grant_text
from identity.core.errors import NotFound
from identity.core.record import Actor
from identity.core.unit import Units
from identity.core.web import use


def register(group: click.Group) -> None:
    """Add the command to the command line."""
    group.add_command(explain_command)


@click.command("explain")
@click.argument("person", required=False)
@click.argument("application", required=False)
@click.argument("action", required=False)
@click.argument("resource_type", metavar="[TYPE]", required=False)
@click.argument("resource_id", metavar="[ID]", required=False)
@click.option("--record", "record_id", type=click.UUID, help="A recorded decision instead, by the record's id.")
@click.option("--item", type=click.IntRange(0), help="Of a batch, the decision at this place (from 0).")
@click.option("--stated", metavar="NAME=VALUE", multiple=True, help="company, org_unit, business_type, amount …")
@click.option("--properties", default="", help="Further properties of the resource, as a JSON object.")
@click.option("--context", default="", help="The context, as a JSON object.")
@click.option("--json", "as_json", is_flag=True, help="The whole explanation as JSON.")
@with_appcontext
def explain_command(  # noqa: PLR0913, PLR0917  each is an argument of the command line
    person: str | None,
    application: str | None,
    action: str | None,
    resource_type: str | None,
    resource_id: str | None,
    record_id: UUID | None,
    item: int | None,
    stated: tuple[str, ...],
    properties: str,
    context: str,
    *,
    as_json: bool,
) -> None:
    """Say why PERSON (a login) may or may not do ACTION in APPLICATION on the resource TYPE ID, with every step.

    `flask identity explain zhangsan expense approve claim BX-1 --stated company=XH01 --stated amount=800.00`
    """
    fields = {"person": person, "application": application, "action": action, "type": resource_type}
    fields |= {"object": resource_id, "properties": properties, "context": context}
    said = {name: value or "" for name, value in fields.items()}
    said |= {name: value for name, _, value in (one.partition("=") for one in stated)}
    now = datetime.now(UTC)
    with use(Units).open(Actor.system("cli:explain"), write=False, now=now) as unit:
        connection = unit.db.connection()
        if record_id is not None:
            found = explain_record(connection, record_id, item)
            if found is None:
                raise NotFound("There is no such decision, or it cannot be found yet.")
        else:
            found = explain(connection, put(connection, use(Access), said, now))
        unit.record(read_record(found))
    if as_json:
        click.echo(orjson.dumps(as_data(found), option=orjson.OPT_INDENT_2).decode())
        return
    for line in lines(found):
        click.echo(line)


def lines(found: Explanation) -> Iterator[str]:
    """The explanation as text; `=>` marks what decided."""
    request, user = found.request, found.user
    yield f"{'PERMIT' if found.permit else 'DENY'} {found.reason}: {words.reason(found.reason)}"
    who = user.login if user else str(request.user)
    yield f"  {who} {request.action} {request.resource_type} {request.resource_id} in {request.application}"
    yield f"  at {found.now:%Y-%m-%d %H:%M:%S}Z, policy version {found.policy_version}, facts {found.facts_revision}"
    if found.recorded:
        one = found.recorded
        again = "the same answer again" if one.same else f"RECORDED OTHERWISE: {one.result} {one.reason}"
        yield f"  record {one.id}{'' if one.item is None else f' item {one.item}'}: {again}"
    for way in found.ways:
        yield from _way(way)
    for duty in found.duties:
        yield _duty(duty)
    for bounds, code in found.admin_grants:
        yield f"   right to grant {bounds.id} {', '.join(bounds.roles)}: {code or 'covers it'}"
    for missing in found.missing:
        yield from _missing(missing)


def _way(way: Way) -> Iterator[str]:
    mark = "=>" if way.decisive else "  "
    end = way.code or ("permits" if way.permission.effect == "permit" else "denies")
    yield f"{mark} {' -> '.join(map(_step, way.steps))}: {end}"
    terms = grant_text(way.grant)
    if terms:
        yield f"     holds in {terms}"
    if way.permission.condition:
        yield f"     condition {way.permission.condition}"
    for check in way.checks:
        if check.code:
            yield f"     fails {check.name}: {words.reason(check.code)}"


def _step(step: Step) -> str:
    origin = step.origin
    if origin is None:
        return f"{step.kind} {step.id}"
    since = f"version {origin.version}" if origin.version is not None else f"{origin.at:%Y-%m-%d}"
    return f"{step.kind} {step.id} (since {since}, {origin.by})"


def _duty(duty: Duty) -> str:
    acts = ", ".join(f"{act.action} by {act.person}" for act in duty.acts) or "nothing known"
    return f"   duty {duty.id} {' ≠ '.join(duty.actions)}: {duty.code or 'allows it'} ({acts})"


def _missing(one: Missing) -> Iterator[str]:
    yield f"   missing: {one.permission.role} would permit it (permission {one.permission.id})"
    for offer in one.offers:
        row = offer.row
        by = f" by row {offer.by}" if offer.by else ""
        yield f"     {row.source_kind} {row.source} -> {row.role} (mapping {row.id}): {words.reason(offer.why)}{by}"
