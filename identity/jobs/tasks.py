"""The jobs of this product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete

from identity.access.checks import carry_out_waiting, forget_rows
from identity.access.decide import Access
from identity.access.duty_report import report_due
from identity.alarms.check import check
from identity.audit.alarm import watch_gap
from identity.audit.index import index_new
from identity.audit.packs import Keys, forget_packs, make_waiting
from identity.audit.retention import purge_buried, request_purges
from identity.audit.upkeep import make_partitions, summarize
from identity.core.db import Database
from identity.core.once import forget_expired
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.events.deliver import Composers, deliver_due
from identity.jobs.worker import Job
from identity.keys.rotate import rotate
from identity.login.authenticate import DELAY_MAX_S, WINDOW_S
from identity.login.leavers import forget_credentials_of_deleted
from identity.login.logout import LogoutNotifiers, end_sessions_of_inactive
from identity.login.models import LoginFailure, LoginTransaction
from identity.login.outage import forget_old
from identity.reports.schedule import make_due
from identity.shipping.run import Shipper
from identity.sync.run import forget_plans
from identity.sync.schedule import Scheduler
from identity.sync.write_back import Writer, forget_ended

Forget = Callable[[Connection, datetime], None]


def tasks(
    settings: Settings,
    database: Database,
    units: Units,
    access: Access,
    notifiers: LogoutNotifiers,
    composers: Composers,
    root: bytes,
    forget: Sequence[Forget] = (),
) -> list[Job]:
    """Every background job, with how often it runs. `forget`: how the doors drop what nobody could present any more."""

    def end_sessions(now: datetime) -> None:
        with units.open(Actor.system("worker:sessions"), now=now) as unit:
            end_sessions_of_inactive(unit, access.snapshot(), notifiers, now)

    def purge(now: datetime) -> None:
        with database.write() as connection:
            connection.execute(delete(LoginTransaction).where(LoginTransaction.expires_at < now))
            old = now - timedelta(seconds=WINDOW_S + DELAY_MAX_S)
            connection.execute(delete(LoginFailure).where(LoginFailure.window_started < old))
            for one in (forget_expired, forget_old, *forget):
                one(connection, now)

    def forget_leavers(now: datetime) -> None:
        with units.open(Actor.system("worker:leavers"), now=now) as unit:
            forget_credentials_of_deleted(unit)

    def rotate_keys(now: datetime) -> None:
        with units.open(Actor.system("worker:keys"), now=now) as unit:
            rotate(unit, root, due_only=True)

    def retain(now: datetime) -> None:
        """Only where the app's role owns the tables; else the owner runs `identity retention`."""
        if settings.database_owner_url is None:
            with units.open(Actor.system("worker:retention"), now=now, reason="retention") as unit:
                purge_buried(unit)
                request_purges(unit, settings.audit_retention_days)

    return [
        Job("audit-gap", 30, lambda now: watch_gap(units, settings.audit_gap_s, now)),
        Job("audit-retention", 3_600, retain),
        Job("audit-index", 0.5, lambda now: index_new(database, now)),
        Job("audit-partitions", 3_600, lambda _: make_partitions(database)),
        Job("audit-summary", 5, lambda _: summarize(database)),
        Job("outbox", 1, lambda now: deliver_due(units, now, composers)),
        Job("ship", 1, Shipper(database).run),
        Job("alarms", 30, lambda now: check(units, now, settings.zone)),
        Job("reports", 60, lambda now: make_due(units, access, now, settings.zone)),
        Job("sessions", 1, end_sessions),
        Job("duties", 600, lambda now: report_due(units, settings.zone, now)),
        Job("policy-checks", 1, lambda now: carry_out_waiting(units, database, access, now)),
        Job("purge", 60, purge),
        Job("keys", 3_600, rotate_keys),
        Job("leavers", 60, forget_leavers),
        *_forgetting(units),
        *_directories(units, settings),
    ]


def evidence_jobs(units: Units, database: Database, keys: Keys) -> list[Job]:
    """Evidence packs: made when an anchored head covers them, kept for some days."""
    return [
        Job("evidence", 1, lambda now: make_waiting(units, database, keys, now)),
        Job("evidence-kept", 3_600, lambda now: forget_packs(units, now)),
    ]


def _forgetting(units: Units) -> list[Job]:
    """What names people and is kept for a while only."""
    return [
        Job("plans", 3_600, lambda now: forget_plans(units, now)),
        Job("write-back-kept", 3_600, lambda now: forget_ended(units, now)),
        Job("policy-check-rows", 3_600, lambda now: forget_rows(units, now)),
    ]


def _directories(units: Units, settings: Settings) -> list[Job]:
    scheduler, writer = Scheduler(units, settings.zone), Writer(units)
    return [
        Job("sync", 1, scheduler.tick, end=scheduler.close),
        Job("write-back", 1, writer.run, end=writer.close),
    ]
