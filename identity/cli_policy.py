"""Commands about rules and who holds what: `flask --app wsgi identity holdings | compare`."""

from __future__ import annotations

from datetime import datetime, tzinfo

import click
from flask.cli import with_appcontext

from identity.access.decide import Access
from identity.access.whatif import compare_versions
from identity.audit import csv
from identity.core.feed import Feed
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.core.web import use
from identity.reports.holdings import person_names
from identity.reports.lookup import COLUMNS, Asked, line, look_up, parse_date
from identity.roles.service_policy import load_rules, version_in_force


def register(group: click.Group) -> None:
    """Add these commands to the command line."""
    group.add_command(holdings_command)
    group.add_command(compare_command)


@click.command("holdings")
@click.option("--at", "day", required=True, metavar="DATE", help="The end of this day, as 2026-03-31.")
@click.option("--person", default="", metavar="LOGIN", help="All identities of the person with this user name.")
@click.option("--application", default="", metavar="CODE")
@click.option("--role", default="", metavar="KEY", help="As expense:approver.")
@click.option("--as-known-today", is_flag=True, help="By the facts that stand today instead of those known then.")
@with_appcontext
def holdings_command(day: str, person: str, application: str, role: str, as_known_today: bool) -> None:
    """Write who held which role on a day, as CSV."""
    zone = use(Settings).zone
    asked = Asked(parse_date(day), person, application, role, as_known_today)
    with use(Units).open(Actor.system("cli:holdings")) as unit:
        past, rows = look_up(unit, asked, zone)
        names = person_names(unit.db.connection())
    for text in csv.lines(COLUMNS, (line(one, names) for one in rows), zone):
        click.echo(text.removeprefix(csv.BOM), nl=False)
    revision, version = past.snapshot.facts_revision, past.snapshot.policy_version
    click.echo(f"{len(rows)} held at {_local(past.moment, zone)}; facts {revision}, policy {version}", err=True)


@click.command("compare")
@click.argument("before", type=int)
@click.argument("after", type=int, required=False)
@with_appcontext
def compare_command(before: int, after: int | None) -> None:
    """Write who would gain and lose what between two policy versions, drafts too, over the people of now.

    Without AFTER, between BEFORE and the version in force.
    """
    use(Feed).follow()
    snapshot = use(Access).snapshot()
    with use(Units).open(Actor.system("cli:compare"), write=False) as unit:
        last = after if after is not None else version_in_force(unit) or 0
        sides = [(one, load_rules(unit, one or None)) for one in (before, last)]
        found = compare_versions(snapshot, sides[0], sides[1], unit.now)
    for row in found.rows:
        user = snapshot.users[row["user_id"]]
        terms = " ".join(filter(None, (row["before"] and f"before: {row['before']}", row["after"])))
        click.echo(f"{row['change']} {user.login} {row['application']} {row['kind']} {row['name']} {terms}".rstrip())
    counts = found.counts()
    click.echo(f"{counts['rows']} changes of {counts['users']} users, {counts['kept']} shown")


def _local(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"
