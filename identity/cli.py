"""The command line: `flask --app wsgi identity …`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import current_app
from flask.cli import AppGroup
from pydantic import ValidationError
from sqlalchemy import create_engine

from identity import cas, cli_audit, cli_explain, cli_policy, forward, oauth, saml
from identity.access.console import AUDIT_ADMIN, SECURITY_ADMIN, SYSTEM_ADMIN
from identity.access.decide import Access
from identity.access.duty_report import report
from identity.audit import rights
from identity.audit.packs import Keys
from identity.configuration import apply as apply_configuration
from identity.configuration import document, export
from identity.configuration.drafts import draft_of
from identity.core import migrate
from identity.core.db import Database
from identity.core.errors import TesseraError
from identity.core.feed import Feed
from identity.core.record import Actor
from identity.core.settings import Settings, SettingsError
from identity.core.unit import Units
from identity.core.web import use
from identity.events.deliver import Composers
from identity.jobs.tasks import evidence_jobs, tasks
from identity.jobs.worker import work
from identity.keys import rotate
from identity.keys.keyring import Keyring, ensure_keys
from identity.keys.seal import evidence_key, published_keys
from identity.login.authenticate import set_password
from identity.login.logout import LogoutNotifiers
from identity.login.setup import TOKEN_S, invite_administrator
from identity.roles.service_second_person import is_required
from identity.sync import review
from identity.sync.only import Only
from identity.sync.run import run_source

ADMINISTRATION_ROLES = [key.partition(":")[2] for key in (SECURITY_ADMIN, SYSTEM_ADMIN, AUDIT_ADMIN)]


class _Commands(AppGroup):
    """Says what is wrong in a sentence, with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TesseraError as error:
            detail = f" ({error.detail})" if error.detail else ""
            raise click.ClickException(f"{error.public}{detail}") from None
        except SettingsError as error:
            raise click.ClickException(str(error)) from None


identity_cli = _Commands("identity", help="Administer Tessera.")
cli_audit.register(identity_cli)
cli_explain.register(identity_cli)
cli_policy.register(identity_cli)


class _DryRun(Exception):
    """Rolls a Unit back."""


def _why(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that changes something: why, and the number of the change request."""
    command = click.option("--reference", help="Number of the change request; recorded.")(command)
    return click.option("--reason", help="Why; recorded.")(command)


@identity_cli.command("migrate")
def migrate_command() -> None:
    """Bring the database up to date and make missing keys."""
    _migrate(use(Settings))
    with use(Units).open(Actor.system("cli:migrate")) as unit:
        ensure_keys(unit, current_app.extensions["tessera_root"])
    click.echo("database is up to date")


def _migrate(settings: Settings) -> None:
    """The revisions and then the roles' rights, both as the owner."""
    engine = create_engine(settings.owner_url) if settings.database_owner_url else use(Database).engine
    migrate.upgrade(engine)
    sealer = settings.database_sealer_url
    with Database(engine).write() as connection:
        rights.grant(
            connection,
            rights.role_of(settings.sqlalchemy_url),
            rights.role_of(sealer.get_secret_value()) if sealer else None,
        )
    if settings.database_owner_url:
        engine.dispose()


@identity_cli.command("check")
def check_command() -> None:
    """Say what an operator should know about this installation's database."""
    with use(Database).read() as connection:
        found = rights.faults(connection)
    click.echo("database: reachable")
    for fault in found:
        click.echo(f"audit rights: not separated: {fault}")
    if not found:
        click.echo("audit rights: separated")


@identity_cli.command("apply")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the changes only.")
@click.option("--prune", is_flag=True, help="Put out of use what an earlier file made and this one does not name.")
@click.option("--draft", is_flag=True, help="Only make a draft of the file's rules, to be looked at and published.")
@_why
def apply_command(
    path: Path, dry_run: bool, prune: bool, draft: bool, reason: str | None, reference: str | None
) -> None:
    """Make the installation as the file says.

    Each line is a change: + made, ~ changed, - removed; ? is there from an earlier file and not in this one, or waits.
    """
    lines: tuple[str, ...] = ()
    try:
        wanted = document.load(path)
        why = reason or f"apply {path.name}"
        with use(Units).open(Actor.system("cli:apply"), reason=why, reference=reference) as unit:
            if draft:
                made, lines = draft_of(unit, wanted, path.name)
                lines = (*lines, f"? policy {made.version}: a draft, {use(Settings).public_url}/admin/policy")
            else:
                second = is_required(unit.db.connection(), demo=use(Settings).tessera_demo)
                done = apply_configuration.apply(
                    unit, wanted, path.parent, set_password, prune=prune, second_person=second
                )
                lines = done.lines
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
    for line in lines:
        click.echo(line)
    click.echo(f"{sum(not line.startswith('?') for line in lines)} changes{' (not applied)' if dry_run else ''}")


@identity_cli.command("export")
def export_command() -> None:
    """Write the configuration to standard output in the form that `apply` reads."""
    with use(Units).open(Actor.system("cli:export"), write=False) as unit:
        click.echo(export.export(unit), nl=False)


@identity_cli.command("bootstrap-admin")
@click.argument("login")
@click.option("--name", required=True, help="The person's name.")
@click.option("--role", type=click.Choice(ADMINISTRATION_ROLES), default=ADMINISTRATION_ROLES[0], show_default=True)
@_why
def bootstrap_admin_command(login: str, name: str, role: str, reason: str | None, reference: str | None) -> None:
    """Invite the first holder of an administration role, and print the one-time token to choose a password with."""
    try:
        why = reason or "first administrator"
        with use(Units).open(Actor.system("cli:bootstrap-admin"), reason=why, reference=reference) as unit:
            token = invite_administrator(unit, login, name, role)
    except ValidationError as error:
        faults = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
        raise click.ClickException(faults) from None
    address = f"{use(Settings).public_url}/setup"
    click.echo(f"{name} is {role}. Within {TOKEN_S // 60} minutes, open {address} and enter {login} and this token:")
    click.echo(token)


@identity_cli.command("sync")
@click.argument("source")
@click.option("--dry-run", is_flag=True, help="Plan only.")
@click.option("--full", is_flag=True, help="Read everything, though the directory could say what changed.")
@click.option("--check", is_flag=True, help="Compare everything and report the drift.")
@click.option("--only", metavar="LOGIN", help="Apply what concerns this one user.")
@click.option("--retry", "run_id", type=click.UUID, metavar="RUN", help="Only what could not be done in this run.")
def sync_command(source: str, dry_run: bool, full: bool, check: bool, only: str | None, run_id: UUID | None) -> None:
    """Bring people, groups and units in line with a directory."""
    actor, mode = Actor.system("cli:sync"), "dry_run" if dry_run else "check" if check else "apply"
    if run_id is not None:
        outcome = review.retry(use(Units), run_id, actor)
    else:
        chosen = Only(login=only) if only else None
        outcome = run_source(use(Units), source, actor, mode=mode, full=full or None, only=chosen)
    click.echo(f"{source}: {outcome.state} {outcome.counts}")
    if outcome.error:
        raise click.ClickException(outcome.error)


@identity_cli.command("rotate-keys")
@click.option("--revoke", "kid", help="Nothing that this key signed counts from now on.")
@_why
def rotate_keys_command(kid: str | None, reason: str | None, reference: str | None) -> None:
    """Take the next step of the signing keys: show the next one, or let one sign that was shown for a day."""
    root = current_app.extensions["tessera_root"]
    why = reason or ("revoked by command" if kid else "rotation by command")
    with use(Units).open(Actor.system("cli:rotate-keys"), reason=why, reference=reference) as unit:
        lines = rotate.revoke(unit, root, kid) if kid else rotate.rotate(unit, root)
    for line in lines:
        click.echo(line)


@identity_cli.command("worker")
def worker_command() -> None:
    """Run the background jobs of this node until stopped."""
    stop = threading.Event()

    def end(*_: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    use(Feed).start()
    click.echo(f"worker started {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z")
    doors = (use(Access), use(LogoutNotifiers), use(Composers))
    root = current_app.extensions["tessera_root"]
    purges = [oauth.forget_expired, cas.purge, saml.purge, forward.purge]
    settings, database, units, keyring = use(Settings), use(Database), use(Units), use(Keyring)
    keys = Keys(lambda: evidence_key(settings, keyring), lambda: published_keys(settings))
    jobs = [*tasks(settings, database, units, *doors, root, purges), *evidence_jobs(units, database, keys)]
    work(units, jobs, stop)
    use(Feed).stop()


@identity_cli.command("duties")
def duties_command() -> None:
    """Look who joins separated duties now, keep the report and print it; fails when one has no control."""
    with use(Units).open(Actor.system("cli:duties")) as unit:
        row = report(unit)
    for one in row.findings:
        sign = "~" if one["mitigated"] else "!"
        click.echo(f"{sign} {one['level']} {one['rule']} {one['title']}: {one['name']}: {' + '.join(one['duties'])}")
    uncontrolled = sum(not one["mitigated"] for one in row.findings)
    click.echo(f"{len(row.findings)} found, {uncontrolled} without a control")
    if uncontrolled:
        raise click.exceptions.Exit(1)
