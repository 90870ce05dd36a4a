"""Sessions: made at a sign-in with a new secret, checked at every use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, update

from identity.access.snapshot import Snapshot
from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.secrets import digest, new_secret
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.login.models import LoginSession
from identity.login.request import ACR_CACHED, ACR_MFA, ACR_PASSWORD, CACHED, SECOND_FACTORS, SessionView

TOUCH_S = 60
# A sign-in of at most this age counts as fresh: what changes an account or the rules asks for one.
FRESH_S = 300


def find_session(
    connection: Connection, secret: str, surface: str, snapshot: Snapshot, settings: Settings, now: datetime
) -> SessionView | None:
    """The live session of this cookie: not ended, idle or expired, of an identity that may act."""
    if not secret:
        return None
    table = LoginSession.__table__
    row = connection.execute(
        select(table).where(LoginSession.secret_hash == digest(secret), LoginSession.surface == surface)
    ).first()
    if row is None or not _alive(row, settings, now) or not snapshot.is_active(row.user_id, now):
        return None
    return _view(row)


def needs_touch(connection: Connection, session_id: UUID, now: datetime) -> bool:
    """Whether the last use was written down a minute ago or more."""
    seen = connection.execute(
        select(LoginSession.last_seen_at).where(LoginSession.id == session_id)
    ).scalar_one_or_none()
    return seen is not None and now - seen >= timedelta(seconds=TOUCH_S)


def touch(connection: Connection, session_id: UUID, now: datetime) -> None:
    """Write down that the session was used."""
    connection.execute(update(LoginSession).where(LoginSession.id == session_id).values(last_seen_at=now))


def hold(connection: Connection, session_id: UUID, now: datetime) -> bool:
    """Whether the session lives; it cannot end before this transaction does, and its use is written down.

    Who takes part in it from here on is therefore told of its end.
    """
    row = connection.execute(
        select(LoginSession.ended_at, LoginSession.expires_at, LoginSession.last_seen_at)
        .where(LoginSession.id == session_id)
        .with_for_update()
    ).first()
    if row is None or row.ended_at is not None or now >= row.expires_at:
        return False
    if now - row.last_seen_at >= timedelta(seconds=TOUCH_S):
        touch(connection, session_id, now)
    return True


def is_fresh(session: SessionView, now: datetime) -> bool:
    """Whether the person signed in at most five minutes ago."""
    return now - session.auth_time <= timedelta(seconds=FRESH_S)


def session_alive(connection: Connection, session_id: UUID, now: datetime) -> bool:
    """Whether a session that a token hangs on still lives. Tokens do not keep it from its absolute end; being idle
    in the browser does not end them before."""
    row = connection.execute(
        select(LoginSession.ended_at, LoginSession.expires_at).where(LoginSession.id == session_id)
    ).first()
    return row is not None and row.ended_at is None and now < row.expires_at


def start_session(
    unit: Unit,
    settings: Settings,
    user_id: UUID,
    person_id: UUID,
    *,
    surface: str,
    amr: tuple[str, ...],
    partial: bool,
) -> tuple[str, SessionView]:
    """A new session and the secret for its cookie; never an old one's after a sign-in (session fixation)."""
    secret = new_secret("sid" if surface == "sso" else "adm")
    row = LoginSession(
        secret_hash=digest(secret),
        surface=surface,
        user_id=user_id,
        created_at=unit.now,
        last_seen_at=unit.now,
        expires_at=_end(unit, settings, surface),
        auth_time=unit.now,
        acr=_acr(amr),
        amr=list(amr),
        partial=partial,
        ip=unit.origin.ip,
        user_agent=unit.origin.user_agent,
    )
    unit.db.add(row)
    unit.db.flush()
    _record(unit, Kind.SESSION_STARTED, row, person_id)
    return secret, _view(row)


def renew_session(
    unit: Unit,
    settings: Settings,
    session_id: UUID,
    person_id: UUID,
    *,
    amr: tuple[str, ...],
    partial: bool,
    from_start: bool,
) -> str | None:
    """The same person proved more, or once more: the session goes on under a new secret, which is returned.

    The applications that take part in it stay signed in. `from_start`: all credentials were given anew, so its time
    begins again; else it keeps its time and its end. None when it is over meanwhile.
    """
    row = unit.db.get(LoginSession, session_id, with_for_update=True, populate_existing=True)
    if row is None or row.ended_at is not None:
        return None
    secret = new_secret("sid" if row.surface == "sso" else "adm")
    row.secret_hash = digest(secret)
    row.last_seen_at = unit.now
    row.acr, row.amr, row.partial = _acr(amr), list(amr), partial
    row.ip, row.user_agent = unit.origin.ip, unit.origin.user_agent
    if from_start:
        row.auth_time, row.expires_at = unit.now, _end(unit, settings, row.surface)
    unit.db.flush()
    _record(unit, Kind.SESSION_RENEWED, row, person_id)
    return secret


def _end(unit: Unit, settings: Settings, surface: str) -> datetime:
    return unit.now + timedelta(seconds=settings.session_absolute_s if surface == "sso" else settings.admin_absolute_s)


def _acr(amr: tuple[str, ...]) -> str:
    """A second factor lifts a password by one rank, and so one that only we remember (`cached`) to a password."""
    second = bool(SECOND_FACTORS & set(amr))
    if CACHED in amr:
        return ACR_PASSWORD if second else ACR_CACHED
    return ACR_MFA if second else ACR_PASSWORD


def _record(unit: Unit, kind: Kind, row: LoginSession, person_id: UUID) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            user=row.user_id,
            person=person_id,
            session=row.id,
            data={"surface": row.surface, "amr": list(row.amr), "partial": row.partial},
        )
    )


def _alive(row: Any, settings: Settings, now: datetime) -> bool:
    idle = settings.session_idle_s if row.surface == "sso" else settings.admin_idle_s
    return row.ended_at is None and now < row.expires_at and now - row.last_seen_at < timedelta(seconds=idle)


def _view(row: Any) -> SessionView:
    return SessionView(
        id=row.id,
        surface=row.surface,
        user_id=row.user_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        auth_time=row.auth_time,
        acr=row.acr,
        amr=tuple(row.amr),
        partial=row.partial,
    )
