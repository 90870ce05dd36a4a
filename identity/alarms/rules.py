"""The rules: each looks at the record of a window and names what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from identity.alarms import controls
from identity.audit.kinds import Kind
from identity.audit.models import AuditFind, AuditRecord
from identity.core.i18n import gettext_noop as _

RECORDS_MAX = 20_000
WEEKEND = 5


@dataclass(frozen=True, slots=True)
class View:
    """What a rule reads: the records with since <= at < until, and its setting."""

    connection: Connection
    since: datetime
    until: datetime
    threshold: int
    hours: str
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell of. `key` names it: while the same key goes on, nobody is told again."""

    key: str
    count: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its defaults; `title` is an English message id. `once` = a key is told of once and for all."""

    title: str
    find: Callable[[View], Iterable[Finding]]
    threshold: int
    window_s: int
    hours: str = "08:00-20:00"
    once: bool = False


def _brute_force(view: View) -> Iterator[Finding]:
    """Refused sign-ins and second factors by login name and by address."""
    by_key: Counter[str] = Counter()
    for body in _bodies(view, Kind.SESSION_REFUSED, Kind.FACTOR_REFUSED):
        login = body.get("data", {}).get("login") or body.get("user")
        by_key.update(filter(None, (f"login:{login}" if login else "", f"ip:{body['ip']}" if body.get("ip") else "")))
    for key, count in sorted(by_key.items()):
        if count >= view.threshold:
            yield Finding(key, count)


def _mass_grant(view: View) -> Iterator[Finding]:
    """Assignments that one person added."""
    rows = view.connection.execute(
        select(AuditFind.actor, func.count())
        .where(
            AuditFind.kind == Kind.ASSIGNMENT_ADDED,
            AuditFind.result == "success",
            AuditFind.at >= view.since,
            AuditFind.at < view.until,
        )
        .group_by(AuditFind.actor)
    )
    for actor, count in rows:
        if count >= view.threshold and not actor.startswith(("cli:", "sync:", "worker:")):
            yield Finding(f"actor:{actor}", count)


def _odd_hours(view: View) -> Iterator[Finding]:
    """Console sessions that began outside the working time."""
    start, _, end = view.hours.partition("-")
    for body in _bodies(view, Kind.SESSION_STARTED):
        if body.get("data", {}).get("surface") != "admin":
            continue
        at = datetime.fromisoformat(body["at"]).astimezone(view.zone)
        if at.weekday() >= WEEKEND or not start <= f"{at:%H:%M}" < end:
            detail = {"actor": body["actor"]["id"], "at": body["at"], "ip": body.get("ip", "")}
            yield Finding(f"record:{body['id']}", 1, detail)


def _dormant_used(view: View) -> Iterator[Finding]:
    """Sign-ins of identities that had not signed in for `threshold` days."""
    rows = view.connection.execute(
        select(AuditFind.user_id, AuditFind.record_id, AuditFind.at).where(
            AuditFind.kind == Kind.SESSION_STARTED,
            AuditFind.user_id.is_not(None),
            AuditFind.at >= view.since,
            AuditFind.at < view.until,
        )
    ).all()
    for user_id, record_id, at in rows:
        before: datetime | None = view.connection.execute(
            select(func.max(AuditFind.at)).where(
                AuditFind.kind == Kind.SESSION_STARTED, AuditFind.user_id == user_id, AuditFind.at < at
            )
        ).scalar_one()
        if before is not None and at - before >= timedelta(days=view.threshold):
            yield Finding(f"record:{record_id}", 1, {"user": str(user_id), "last": before.isoformat()})


def _sync_stopped(view: View) -> Iterator[Finding]:
    """Directories whose runs failed or are held by the guard; a source that goes on failing is told of once."""
    found: dict[str, list[dict[str, Any]]] = {}
    for body in _bodies(view, Kind.SYNC_HELD, Kind.SYNC_FAILED):
        found.setdefault(str(body.get("resource_id")), []).append(body)
    for code, bodies in sorted(found.items()):
        if len(bodies) >= view.threshold:
            data = bodies[0].get("data", {})
            yield Finding(f"directory:{code}", len(bodies), {"run": data.get("run"), "error": data.get("error")})


def _not_written(view: View) -> Iterator[Finding]:
    """Directories that did not take what was changed here."""
    found: dict[str, list[dict[str, Any]]] = {}
    for body in _bodies(view, Kind.WRITE_BACK_FAILED):
        found.setdefault(str(body.get("resource_id")), []).append(body.get("data", {}))
    for code, items in sorted(found.items()):
        if len(items) >= view.threshold:
            detail = {"field": items[0].get("field"), "error": items[0].get("detail")}
            yield Finding(f"directory:{code}", len(items), detail)


def _mitigation_used(view: View) -> Iterator[Finding]:
    """Persons who performed at least `threshold` of the duties that they may join under a mitigating control."""
    for one in controls.used(view.connection, view.since, view.until):
        if len(one.duties) >= view.threshold:
            detail = {"person": str(one.person), "rule": one.rule, "duties": list(one.duties)}
            yield Finding(f"control:{one.mitigation}", one.acts, detail)


RULES: Mapping[str, Rule] = {
    "brute-force": Rule(_("Many refused sign-ins"), _brute_force, 20, 600),
    "mass-grant": Rule(_("Many roles assigned by one person"), _mass_grant, 20, 600),
    "odd-hours": Rule(_("An administrator at odd hours"), _odd_hours, 1, 3_600, once=True),
    "dormant-used": Rule(_("A dormant account was used"), _dormant_used, 90, 3_600, once=True),
    "mitigation-used": Rule(_("Separated duties were joined under a control"), _mitigation_used, 2, 604_800),
    "sync-stopped": Rule(_("A directory sync failed or is held"), _sync_stopped, 1, 900),
    "not-written": Rule(_("A change could not be written to a directory"), _not_written, 1, 900),
}


def _bodies(view: View, *kinds: Kind) -> Iterator[dict[str, Any]]:
    rows = view.connection.execute(
        select(AuditRecord.body)
        .join(
            AuditFind,
            (AuditRecord.retention_class == AuditFind.retention_class)
            & (AuditRecord.at == AuditFind.at)
            & (AuditRecord.id == AuditFind.record_id),
        )
        .where(AuditFind.kind.in_(kinds), AuditFind.item == 0, AuditFind.at >= view.since, AuditFind.at < view.until)
        .order_by(AuditFind.at.desc())
        .limit(RECORDS_MAX)
    ).scalars()
    for body in rows:
        yield orjson.loads(body)
