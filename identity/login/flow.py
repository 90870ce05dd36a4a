"""The flow: what comes next (pure), and the one way in which a sign-in is finished."""

from __future__ import annotations

import secrets as random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from identity.access.decide import Access, AccessRequest
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.claims.release import release
from identity.core.record import Record
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.login.models import LoginTransaction, SessionParticipant
from identity.login.request import ACR_MFA, CACHED, SECOND_FACTORS, LoginRequest, Ready, Refusal, SessionView, SignIn
from identity.login.session import hold


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The person must sign in."""


@dataclass(frozen=True, slots=True)
class StepUp:
    """The person must give a second factor."""


@dataclass(frozen=True, slots=True)
class AskConsent:
    """The person must agree."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing that the person could do here would help."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All is there."""


Step = Authenticate | StepUp | AskConsent | Refuse | Finish


def next_step(
    request: LoginRequest,
    session: SessionView | None,
    *,
    started_at: datetime,
    consented: bool,
    denied: bool,
    now: datetime,
) -> Step:
    """What comes next; the only place that decides it, and every step returns to it.

    `started_at` is when this request came: credentials given since then are fresh (prompt=login, ForceAuthn, renew).
    A session by a password that only we remember is asked for it anew where it does not suffice, because its directory
    may answer by now; while it does not, no factor can be added to it.
    """
    silent = "none" in request.prompts
    if denied:
        return Refuse("access_denied")
    if session is None or _needs_fresh(request, session, started_at, now):
        return Refuse("login_required") if silent else Authenticate()
    if request.required_user is not None and session.user_id != request.required_user:
        return Refuse("login_required" if silent else "wrong_user")
    remembered = CACHED in session.amr
    if session.partial:
        if silent:
            return Refuse("interaction_required")
        return Authenticate() if remembered and session.auth_time < started_at else StepUp()
    if request.acr is not None and not request.acr.met_by(session.acr):
        if remembered and session.auth_time < started_at and not silent:
            return Authenticate()
        if request.acr.met_by(ACR_MFA) and not silent and not remembered and not SECOND_FACTORS & set(session.amr):
            return StepUp()
        if request.acr.essential:
            return Refuse("unmet_acr")
    if (request.require_consent or "consent" in request.prompts) and not consented:
        return Refuse("consent_required") if silent else AskConsent()
    return Finish()


def _needs_fresh(request: LoginRequest, session: SessionView, started_at: datetime, now: datetime) -> bool:
    if session.auth_time >= started_at:
        return False
    if request.prompts & {"login", "select_account"}:
        return True
    return request.max_age_s is not None and now - session.auth_time > timedelta(seconds=request.max_age_s)


def finish(unit: Unit, ready: Ready, access: Access, registry: Registry) -> SignIn | Refusal:
    """Decide, release, join, record: once for each sign-in, in the Unit in which the door stores its credential."""
    request, session = ready.request, ready.session
    app = registry.current().application_by_id(request.app_id) if request.app_id else None
    if ready.transaction_id is not None and not _take(unit, ready.transaction_id):
        return Refusal("interaction_required", request.reply, app)
    if app is None or not app.active:
        return Refusal("access_denied", request.reply, app)
    if not hold(unit.db.connection(), session.id, unit.now):
        return Refusal("login_required", request.reply, app)
    decided = access.decide(
        unit,
        AccessRequest(app.code, session.user_id, "application", app.code, "sso", acr=session.acr, sid=str(session.id)),
    )
    user = decided.snapshot.user(session.user_id)
    if not decided.permit or user is None:
        unit.record(_record(Kind.SIGN_IN_REFUSED, app, session, result="refused", reason=decided.reason))
        return Refusal("access_denied", request.reply, app)
    roles = decided.snapshot.roles_in(session.user_id, app.code, unit.now)
    connection = unit.db.connection()
    released = release(connection, decided.snapshot, app, session.user_id, unit.now)
    sid = join(connection, session.id, app.id, request.door, unit.now)
    signed_in = SignIn(
        app=app,
        user_id=session.user_id,
        sub=user.sub,
        login=user.login,
        person_id=user.person_id,
        session_id=session.id,
        session_sid=sid,
        session_expires_at=session.expires_at,
        auth_time=session.auth_time,
        acr=session.acr,
        amr=session.amr,
        fresh_credentials=session.auth_time >= ready.started_at,
        released=released,
        roles=roles,
        decided=decided,
        reply=request.reply,
    )
    record = _record(Kind.SIGN_IN_COMPLETED, app, session, result="success", reason="")
    record.person = user.person_id
    record.policy_version, record.facts_revision = decided.policy_version, decided.facts_revision
    record.data = {
        "door": request.door,
        "released": sorted(released),
        "roles": list(roles),
        "acr": session.acr,
    }
    unit.record(record)
    return signed_in


def join(connection: Connection, session_id: UUID, app_id: UUID, protocol: str, now: datetime) -> str:
    """The `sid` under which the application takes part in the session."""
    maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        maker(SessionParticipant)
        .values(
            id=new_id(),
            session_id=session_id,
            application_id=app_id,
            protocol=protocol,
            sid=random.token_hex(16),
            data={},
            joined_at=now,
        )
        .on_conflict_do_nothing()
    )
    return connection.execute(
        select(SessionParticipant.sid).where(
            SessionParticipant.session_id == session_id,
            SessionParticipant.application_id == app_id,
            SessionParticipant.protocol == protocol,
        )
    ).scalar_one()


def _take(unit: Unit, transaction_id: UUID) -> bool:
    """Whether this is the one finish of the transaction."""
    done = unit.db.execute(
        update(LoginTransaction)
        .where(LoginTransaction.id == transaction_id, LoginTransaction.finished_at.is_(None))
        .values(finished_at=unit.now)
        .returning(LoginTransaction.id)
    ).first()
    return done is not None


def _record(kind: Kind, app: App, session: SessionView, *, result: str, reason: str) -> Record:
    return Record(
        kind=kind,
        result=result,  # type: ignore[arg-type]
        reason=reason,
        user=session.user_id,
        session=session.id,
        application=app.code,
        resource_type="application",
        resource_id=app.code,
    )
