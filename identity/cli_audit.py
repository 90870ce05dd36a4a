"""The audit's commands: `flask --app wsgi identity seal | verify-audit …`."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask.cli import with_appcontext
from pydantic import SecretStr
from sqlalchemy import create_engine

from identity.audit.acknowledge import Acknowledging, Said
from identity.audit.anchors import FileAnchor, LeafLog
from identity.audit.note import NoteKey
from identity.audit.outside import anchor_path, leaf_log, outside
from identity.audit.recorder import Recorder
from identity.audit.retention import purge_buried, redact, request_purges
from identity.audit.seal import Sealer
from identity.audit.testimony import Evidence
from identity.audit.verify import verify
from identity.core.db import Database, engine_options, prepare_engine
from identity.core.errors import TesseraError, Unavailable
from identity.core.feed import Feed
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Unit, Units
from identity.core.web import use
from identity.events.mail import send_mail
from identity.keys.seal import load_seal_keys, published_keys


def register(group: click.Group) -> None:
    """Add the audit's commands to the command line."""
    group.add_command(seal_command)
    group.add_command(verify_command)
    group.add_command(restored_command)
    group.add_command(retention_command)
    group.add_command(redact_command)


@contextmanager
def _database_of(url: SecretStr | None) -> Iterator[Database]:
    """The database by a role's own address, where it has one."""
    if url is None:
        yield use(Database)
        return
    address = url.get_secret_value()
    database = prepare_engine(create_engine(address, **engine_options(address)))
    try:
        yield database
    finally:
        database.engine.dispose()


def make_sealer(settings: Settings, database: Database) -> Sealer:
    """The sealer of these settings, in this process."""
    days = settings.audit_retention_days
    where = outside(settings, _mailer(settings))
    return Sealer(database, load_seal_keys(settings), where, _holder(), settings.audit_head_s, days)


def _holder() -> str:
    """By what name this process holds the sealer's lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _mailer(settings: Settings) -> Callable[[str, str], None]:
    """How heads are mailed."""

    def mail(subject: str, text: str) -> None:
        if settings.smtp_url is None or settings.audit_anchor_mail is None:
            raise Unavailable("SMTP_URL is not set.", code="mail")
        send_mail(settings.smtp_url.get_secret_value(), settings.mail_from, settings.audit_anchor_mail, subject, text)

    return mail


@click.command("seal")
@click.option("--once", is_flag=True, help="Seal what is there, sign and anchor a head, and end.")
@with_appcontext
def seal_command(*, once: bool) -> None:
    """Run the sealer until stopped: order, tree, signed heads, anchors."""
    settings = use(Settings)
    with _database_of(settings.database_sealer_url) as database:
        _seal(make_sealer(settings, database), once=once)


def _seal(sealer: Sealer, *, once: bool) -> None:
    if once:
        sealer.take(datetime.now(UTC))
        while sealer.seal(datetime.now(UTC)):
            pass
        sealer.bury(datetime.now(UTC))
        sealer.stop(datetime.now(UTC))
        return
    stop = threading.Event()

    def end(*_: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    click.echo(f"sealer started {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z")
    sealer.run(stop)


@click.command("verify-audit")
@click.option("--anchor", type=click.Path(exists=True, path_type=Path), multiple=True, help="File of anchored heads.")
@click.option("--leaves", type=click.Path(exists=True, path_type=Path), help="Leaf log, as the file anchor keeps it.")
@click.option("--key", multiple=True, help="Verifier key of the sealer (name+id+base64).")
@click.option("--database-heads", is_flag=True, help="Believe the heads in the database; proves less.")
@with_appcontext
def verify_command(
    anchor: tuple[Path, ...], leaves: Path | None, key: tuple[str, ...], *, database_heads: bool
) -> None:
    """Prove that no record was changed, deleted, inserted, reordered or cut; name the first that was.

    Without options: against the anchor file and the sealer's public key of this installation.
    """
    settings = use(Settings)
    try:
        keys = tuple(map(NoteKey.parse, key)) or published_keys(settings)
    except TesseraError as error:
        raise click.UsageError(error.public) from None
    if not keys:
        raise click.UsageError("The sealer's public key is not known: give --key.")
    files = anchor or (anchor_path(settings),)
    notes = () if database_heads else tuple(note for path in files for note in FileAnchor(path).notes())
    if not notes and not database_heads:
        raise click.UsageError(f"{files[0]} holds no heads; --database-heads believes those in the database.")
    with use(Database).read(consistent=True) as connection:
        report = verify(connection, Evidence(keys, notes, LeafLog(leaves) if leaves else leaf_log(settings)))
    click.echo(
        f"{report.leaves} leaves, {report.records} records, {report.purged} purged under tombstones, "
        f"{report.waiting} not yet sealed, {report.late} sealed late"
    )
    for statement in report.restored:
        click.echo(f"GAP: {statement}")
    if report.superseded:
        click.echo(f"{report.superseded} heads of what was lost are superseded")
    if report.proved is not None:
        source = "the database's own heads" if database_heads else f"{report.heads} anchored heads"
        click.echo(f"proved to {report.proved.at:%Y-%m-%d %H:%M:%S}Z ({report.proved.size} records) by {source}")
    else:
        click.echo("no head that holds: nothing is proved")
    if report.first is not None:
        click.echo(f"FIRST BAD: {report.first}")
        for finding in report.findings[:20]:
            if finding is not report.first:
                click.echo(f"also: {finding}")
        raise click.ClickException(f"{report.total} findings")
    if report.proved is None:
        raise click.exceptions.Exit(1)
    lost = sum(one.lost - one.kept for one in report.restored)
    gap = (
        f", but for the {lost} records that {len(report.restored)} stated restorations lost" if report.restored else ""
    )
    click.echo(f"the audit holds{gap}")


@click.command("audit-restored")
@click.option(
    "--backup", required=True, metavar="TIME", help="Of what time the restored state is (ISO 8601, with zone)."
)
@click.option("--by", required=True, help="Who restored it.")
@click.option("--reason", required=True, help="Why; signed and recorded.")
@click.option("--reference", default="", help="Number of the change request.")
@click.option("--anchor", type=click.Path(exists=True, path_type=Path), multiple=True, help="More files of heads.")
@click.option("--dry-run", is_flag=True, help="Show what would be stated only.")
@with_appcontext
def restored_command(
    backup: str, by: str, reason: str, reference: str, anchor: tuple[Path, ...], dry_run: bool
) -> None:
    """State, signed by the sealer's key, that the database was restored from a backup and what of the audit is lost.

    Run it where the sealer runs, while no sealer does. Sealing goes on afterwards, and every verification tells of the
    gap. It states nothing where the anchors prove that records were changed.
    """
    settings, now = use(Settings), datetime.now(UTC)
    try:
        at = datetime.fromisoformat(backup)
    except ValueError:
        raise click.UsageError("--backup is no time.") from None
    if at.tzinfo is None:
        raise click.UsageError("--backup needs a zone, as in 2026-01-31T02:00+08:00.")
    said = Said(by, at.astimezone(UTC), reason, reference)
    with _database_of(settings.database_sealer_url) as database:
        more = [note for path in anchor for note in FileAnchor(path).notes()]
        restoring = Acknowledging(database, load_seal_keys(settings), outside(settings, _mailer(settings)), more)
        if dry_run:
            click.echo(f"would state: {restoring.look(said, now)}")
            return
        units = Units(database, use(Recorder), use(Feed), lambda *_: None)
        actor = Actor.system("cli:audit-restored")
        done = restoring.sign(
            said, lambda: units.open(actor, now=now, reason=reason, reference=reference or None), _holder(), now
        )
    click.echo(f"stated: {done}")
    click.echo("Start the sealer again, and give the new anchor file to your auditors.")


@contextmanager
def _owner_unit(name: str, reason: str, reference: str | None) -> Iterator[Unit]:
    """A Unit of the owner of the tables."""
    with _database_of(use(Settings).database_owner_url) as database:
        units = Units(database, use(Recorder), use(Feed), lambda *_: None)
        with units.open(Actor.system(name), reason=reason, reference=reference) as unit:
            yield unit


@click.command("retention")
@with_appcontext
@click.option("--reason", default="retention", show_default=True, help="Why; recorded.")
@click.option("--reference", help="Number of the change request.")
def retention_command(reason: str, reference: str | None) -> None:
    """Ask for what is older than AUDIT_RETENTION_DAYS, and remove what the sealer has signed a tombstone for.

    Run it daily as the owner (DATABASE_OWNER_URL); the sealer signs in between.
    """
    days = use(Settings).audit_retention_days
    with _owner_unit("cli:retention", reason, reference) as unit:
        removed = purge_buried(unit)
        asked = request_purges(unit, days)
    click.echo(f"{removed} months removed, {asked} asked for (older than {days} days)")


@click.command("redact")
@with_appcontext
@click.argument("record", type=click.UUID)
@click.argument("field", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; recorded.")
@click.option("--reference", help="Number of the change request.")
def redact_command(record: UUID, field: tuple[str, ...], reason: str, reference: str | None) -> None:
    """Erase personal values of a record; the proof stays whole."""
    with _owner_unit("cli:redact", reason, reference) as unit:
        redact(unit, record, field)
    click.echo(f"erased: {', '.join(field)}")
