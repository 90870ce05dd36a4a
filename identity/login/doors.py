"""What a door calls: enter with a request, resume after the pages. Needs Flask through `core.web` only."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.core.errors import Invalid
from identity.core.hot import parse_uuid
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import delete_cookie, open_unit, read_cookie, redirect_to, request_now, set_cookie, use
from identity.login import flow, mfa, service
from identity.login.models import LoginTransaction
from identity.login.request import SECOND_FACTORS, LoginRequest, Ready, SessionView
from identity.login.session import find_session

SURFACES = {"console": "admin"}


def surface_of(door: str) -> str:
    """Which kind of session a door works with."""
    return SURFACES.get(door, "sso")


def current_session(unit: Unit, surface: str = "sso") -> SessionView | None:
    """The live session of this request's cookie, a partial one too.

    One of a password only is partial as soon as a second factor is owed, also when it was not at the sign-in.
    """
    secret = read_cookie("sid" if surface == "sso" else "admin")
    if not secret:
        return None
    connection, snapshot, settings = unit.db.connection(), use(Access).snapshot(), use(Settings)
    session = find_session(connection, secret, surface, snapshot, settings, unit.now)
    if session is None or session.partial or SECOND_FACTORS & set(session.amr):
        return session
    owed = mfa.factor_owed(connection, snapshot, settings, session.user_id, unit.now)
    return replace(session, partial=True) if owed else session


def enter(request: LoginRequest, *, cross_site_post: bool = False) -> Ready | Response:
    """Finish at once when the browser's session suffices, else store the request and send the browser on its way.

    A cross-site POST never reads the session: it is stored and answered 303 to the door's own GET, which the browser
    sends with its SameSite=Lax cookies (foundations §7).
    """
    now = request_now()
    if not cross_site_post and not ({"consent"} & request.prompts or request.require_consent):
        with open_unit(write=False) as unit:
            session = current_session(unit, surface_of(request.door))
        step = flow.next_step(request, session, started_at=now, consented=False, denied=False, now=now)
        if isinstance(step, flow.Finish) and session is not None:
            return Ready(request, session, now)
    with open_unit() as unit:
        transaction_id, secret = service.begin(unit, request)
    response = redirect_to(f"/{request.door}/resume?tx={transaction_id}")
    set_cookie(response, f"tx-{transaction_id}", secret, service.TRANSACTION_S)
    return response


def resume(tx: str, door: str) -> Ready | Response | flow.Refuse:
    """What comes next for a stored request; `Refuse` is the door's to answer, with `request_of` for its reply."""
    with open_unit(write=False) as unit:
        transaction = load_transaction(unit, tx, door)
        request = LoginRequest.from_json(transaction.request)
        session = current_session(unit, surface_of(door))
        consented = transaction.consented or (
            session is not None
            and "consent" not in request.prompts
            and service.has_consented(unit, session.user_id, request)
        )
    step = flow.next_step(
        request,
        session,
        started_at=transaction.created_at,
        consented=consented,
        denied=transaction.denied,
        now=request_now(),
    )
    match step:
        case flow.Authenticate():
            return redirect_to(f"/login?tx={transaction.id}")
        case flow.StepUp():
            return redirect_to(f"/login/totp?tx={transaction.id}")
        case flow.AskConsent():
            return redirect_to(f"/login/consent?tx={transaction.id}")
        case flow.Refuse():
            return step
    if session is None:
        raise Invalid("This sign-in cannot be finished.", code="no_session")
    return Ready(request, session, transaction.created_at, transaction.id)


def request_of(tx: str, door: str) -> LoginRequest:
    """The stored request of this browser."""
    with open_unit(write=False) as unit:
        return LoginRequest.from_json(load_transaction(unit, tx, door).request)


def load_transaction(unit: Unit, tx: str, door: str | None = None) -> LoginTransaction:
    """The transaction that this browser began (at this door); raises `Invalid` for any other."""
    transaction_id = parse_uuid(tx)
    row = None
    if transaction_id is not None:
        row = service.find_transaction(unit, transaction_id, read_cookie(f"tx-{transaction_id}"))
    if row is None or (door is not None and row.door != door):
        raise Invalid(
            "This sign-in was begun in another browser or took too long. Please start again.",
            code="no_transaction",
        )
    return row


def forget_transaction(response: Response, transaction_id: UUID | None) -> None:
    """The browser needs the transaction's cookie no more."""
    if transaction_id is not None:
        delete_cookie(response, f"tx-{transaction_id}")
