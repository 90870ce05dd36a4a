"""What the login pages do, each in its own Unit: try a password, give a code, start and end sessions."""

from __future__ import annotations

import secrets as random
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update

from identity.access.decide import Access
from identity.apps.models import Application
from identity.audit.kinds import Kind
from identity.core.errors import NotFound, Refused
from identity.core.record import Actor, Record
from identity.core.secrets import digest, equal
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.keys.keyring import Keyring
from identity.login import authenticate, mfa
from identity.login.logout import LogoutNotifiers, end_session, end_sessions_of_user
from identity.login.models import Consent, LoginTransaction
from identity.login.request import LoginRequest, SessionView
from identity.login.session import renew_session, start_session
from identity.people.models import User

TRANSACTION_S = 900


def begin(unit: Unit, request: LoginRequest) -> tuple[UUID, str]:
    """Store the request; its id and the secret that binds it to this browser."""
    secret = random.token_urlsafe(32)
    row = LoginTransaction(
        browser_hash=digest(secret),
        door=request.door,
        request=request.to_json(),
        created_at=unit.now,
        expires_at=unit.now + timedelta(seconds=TRANSACTION_S),
    )
    unit.db.add(row)
    unit.db.flush()
    return row.id, secret


def find_transaction(unit: Unit, transaction_id: UUID, secret: str) -> LoginTransaction | None:
    """The transaction, if this browser began it and it can still be finished."""
    row = unit.db.get(LoginTransaction, transaction_id)
    if row is None or not equal(row.browser_hash, digest(secret)):
        return None
    return row if row.finished_at is None and unit.now < row.expires_at else None


def sign_in(
    unit: Unit,
    access: Access,
    settings: Settings,
    candidate: authenticate.Candidate,
    surface: str,
    before: SessionView | None,
    notifiers: LogoutNotifiers,
    amr: tuple[str, ...] = ("pwd",),
) -> str | None:
    """The password was right: the person's session of this browser and surface goes on under a new secret, or a new
    one begins and an earlier one of somebody else ends; the cookie's secret.

    None when the identity may not act (the answer is that of a wrong password).
    """
    snapshot = access.snapshot()
    if candidate.user_id is None or candidate.person_id is None or not snapshot.is_active(candidate.user_id, unit.now):
        refuse(unit, candidate, "user_inactive")
        return None
    connection = unit.db.connection()
    authenticate.forget_failures(connection, candidate.login_key)
    partial = mfa.factor_owed(connection, snapshot, settings, candidate.user_id, unit.now)
    unit.actor = user_actor(unit, candidate.user_id)
    if before is not None and before.user_id == candidate.user_id:
        renewed = renew_session(
            unit, settings, before.id, candidate.person_id, amr=amr, partial=partial, from_start=True
        )
        if renewed is not None:
            return renewed
    elif before is not None:
        end_session(unit, before.id, "replaced", notifiers)
    secret, _ = start_session(
        unit, settings, candidate.user_id, candidate.person_id, surface=surface, amr=amr, partial=partial
    )
    return secret


def refuse(unit: Unit, candidate: authenticate.Candidate, reason: str) -> None:
    """Count and record a failed sign-in; a name that waits is not counted again, nor one whose password was right but
    must be changed."""
    if reason not in {"blocked", "must_change"}:
        authenticate.count_failure(unit.db.connection(), candidate.login_key, unit.origin.ip, unit.now)
    unit.record(
        Record(
            kind=Kind.SESSION_REFUSED,
            result="refused",
            reason=reason,
            user=candidate.user_id,
            person=candidate.person_id,
            data={"login": candidate.login_key[:128]},
        )
    )


def password_changed(unit: Unit, candidate: authenticate.Candidate) -> None:
    """Record that a person changed the password in the directory."""
    if candidate.user_id is None:
        return
    unit.actor = user_actor(unit, candidate.user_id)
    unit.record(
        Record(
            kind=Kind.PASSWORD_CHANGED,
            result="success",
            user=candidate.user_id,
            person=candidate.person_id,
            resource_type="user",
            resource_id=str(candidate.user_id),
            data={"by": "directory"},
        )
    )


def step_up(unit: Unit, settings: Settings, session: SessionView, person_id: UUID, method: str) -> str:
    """The second factor was right: the session goes on under a new secret; the cookie's secret.

    Raises `Refused` when it is over meanwhile.
    """
    amr = tuple(dict.fromkeys((*session.amr, method, "mfa")))
    secret = renew_session(unit, settings, session.id, person_id, amr=amr, partial=False, from_start=False)
    if secret is None:
        raise Refused("Please sign in first.", code="no_session")
    return secret


def try_code(unit: Unit, keyring: Keyring, settings: Settings, session: SessionView, code: str) -> str | None:
    """The second factor of a sign-in under way: the session goes on under a new secret, which is returned; None for a
    code that does not count."""
    method = check_code(unit, keyring, session, code)
    if method is None:
        return None
    unit.actor = user_actor(unit, session.user_id)
    person = unit.db.execute(select(User.person_id).where(User.id == session.user_id)).scalar_one()
    return step_up(unit, settings, session, person, method)


def check_code(unit: Unit, keyring: Keyring, session: SessionView, code: str) -> str | None:
    """The method when the code of the session's identity is right.

    None for a wrong one, which is counted and recorded like a wrong password, and while the identity must wait. The
    counter is the identity's own: a right password does not clear it.
    """
    user = unit.db.get(User, session.user_id)
    if user is None:
        raise NotFound("There is no such user.")
    connection, key = unit.db.connection(), f"otp:{user.login_key}"
    if authenticate.must_wait(connection, key, "", unit.now):
        method, reason = None, "blocked"
    else:
        method, reason = mfa.verify_code(unit, keyring, session.user_id, code), "wrong_code"
        if method is None:
            authenticate.count_failure(connection, key, unit.origin.ip, unit.now)
    if method is not None:
        authenticate.forget_failures(connection, key)
        return method
    refusal = Record(kind=Kind.FACTOR_REFUSED, result="refused", reason=reason, user=user.id, person=user.person_id)
    refusal.session = session.id
    unit.record(refusal)
    return None


def change_password(
    unit: Unit, settings: Settings, session: SessionView, user: User, hashed: str, notifiers: LogoutNotifiers
) -> str:
    """The identity has another local password: what was begun with the old one elsewhere ends, this session goes on
    under a new secret, which is returned."""
    authenticate.store_hash(unit, user.id, hashed)
    unit.record(Record(kind=Kind.PASSWORD_CHANGED, result="success", user=user.id, person=user.person_id))
    end_sessions_of_user(unit, user.id, "password_changed", notifiers, keep=session.id)
    notifiers.end_offline(unit, user.id)
    secret = renew_session(
        unit, settings, session.id, user.person_id, amr=session.amr, partial=session.partial, from_start=False
    )
    if secret is None:
        raise Refused("Please sign in first.", code="no_session")
    return secret


def withdraw_consent(unit: Unit, user_id: UUID, app_id: UUID, notifiers: LogoutNotifiers) -> bool:
    """The person no longer agrees: what the application got is over; False when he had not agreed."""
    found = unit.db.execute(
        delete(Consent).where(Consent.user_id == user_id, Consent.application_id == app_id).returning(Consent.id)
    ).first()
    if found is None:
        return False
    notifiers.end_offline(unit, user_id, app_id)
    code = unit.db.execute(select(Application.code).where(Application.id == app_id)).scalar_one()
    unit.record(Record(kind=Kind.CONSENT_WITHDRAWN, result="success", user=user_id, application=code))
    return True


def consent(unit: Unit, transaction: LoginTransaction, session: SessionView, *, agreed: bool) -> None:
    """The person's answer to the consent page."""
    unit.db.execute(
        update(LoginTransaction)
        .where(LoginTransaction.id == transaction.id)
        .values(consented=agreed, denied=not agreed)
    )
    if agreed:
        request = LoginRequest.from_json(transaction.request)
        row = unit.db.execute(
            select(Consent).where(Consent.user_id == session.user_id, Consent.application_id == request.app_id)
        ).scalar_one_or_none()
        if row is None:
            row = Consent(user_id=session.user_id, application_id=request.app_id, scopes=[], at=unit.now)
            unit.db.add(row)
        row.scopes, row.at = sorted({*row.scopes, *request.scopes}), unit.now
    unit.record(
        Record(
            kind=Kind.CONSENT_GIVEN,
            result="success" if agreed else "refused",
            user=session.user_id,
            session=session.id,
            data={"agreed": agreed},
        )
    )


def has_consented(unit: Unit, user_id: UUID, request: LoginRequest) -> bool:
    """Whether the person agreed to all of this earlier."""
    scopes = unit.db.execute(
        select(Consent.scopes).where(Consent.user_id == user_id, Consent.application_id == request.app_id)
    ).scalar_one_or_none()
    return scopes is not None and set(request.scopes) <= set(scopes)


def user_actor(unit: Unit, user_id: UUID, session_id: UUID | None = None) -> Actor:
    """The identity as the actor of an act."""
    row = unit.db.execute(select(User.login, User.person_id).where(User.id == user_id)).one()
    return Actor("user", row.login, row.login, user=user_id, person=row.person_id, session=session_id)
