"""The CAS pages (CAS Protocol 3.0 §2.1, §2.3)."""

from __future__ import annotations

import secrets as random
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.audit.kinds import Kind
from identity.cas.hot import SET
from identity.cas.models import ServiceTicket
from identity.claims.release import aliased_for
from identity.core.errors import Invalid, Refused
from identity.core.record import Record
from identity.core.secrets import digest
from identity.core.unit import Unit
from identity.core.web import open_unit, public, redirect_to, use
from identity.login import flow, service
from identity.login.doors import enter, forget_transaction, request_of, resume
from identity.login.models import SessionParticipant
from identity.login.request import LoginRequest, Ready, Refusal, SignIn

# An application that is entered more often in one session of ten hours forgets its oldest sessions by itself.
TICKETS_KEPT = 50

bp = Blueprint("cas", __name__)


@bp.route("/cas/login", methods=["GET", "POST"])
@public("CAS login", csrf=False)
def login() -> Response:
    """Sign in for a service; without one the portal does."""
    address = _one("service")
    if not address:
        return redirect_to("/")
    found = use(Registry).current().cas(address)
    if found is None or not found.app.active:
        with open_unit(write=False) as unit:
            unit.record(
                Record(
                    kind=Kind.CAS_REQUEST_REFUSED,
                    result="refused",
                    reason="unregistered_service",
                    data={"service": address[:512]},
                )
            )
        raise Invalid("This application is not registered here.", code="unregistered_service")
    # §2.1.1: "renew" wins over "gateway".
    prompts = {"login"} if _one("renew") in SET else {"none"} if _one("gateway") in SET else set()
    wanted = LoginRequest(
        app_id=found.app.id,
        door="cas",
        prompts=frozenset(prompts),
        reply={"service": address},
        return_to=address,
    )
    answer = enter(wanted, cross_site_post=request.method == "POST")
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/cas/resume")
@public("a step of a login; bound to the browser by the transaction's cookie")
def resume_page() -> Response:
    """Where the login pages return to."""
    tx = request.args.get("tx", "")
    answer = resume(tx, "cas")
    if isinstance(answer, flow.Refuse):
        if answer.reason in {"login_required", "interaction_required"}:  # gateway: back without a ticket
            return redirect_to(str(request_of(tx, "cas").reply["service"]))
        raise Refused("You cannot sign in to this application.", answer.reason, code=answer.reason)
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/cas/logout")
@public("CAS logout: asks, since a GET never ends a session")
def logout() -> Response:
    """§2.3: `service` and `url` are ignored; an open redirect helps nobody."""
    return redirect_to("/logout")


def _one(name: str) -> str | None:
    """The parameter's value; raises `Invalid` when it stands there twice, so that nobody else reads another one."""
    values = request.args.getlist(name) + request.form.getlist(name)
    if len(values) > 1:
        raise Invalid("The request is not valid.", f"{name} stands twice", code="invalid_request")
    return values[0] if values else None


def _finish(ready: Ready) -> Response:
    ticket: str | None = None
    with open_unit() as unit:
        unit.actor = service.user_actor(unit, ready.session.user_id, ready.session.id)
        outcome = flow.finish(unit, ready, use(Access), use(Registry))
        if isinstance(outcome, SignIn):
            ticket = _issue(unit, outcome)
    if isinstance(outcome, Refusal) or ticket is None:
        raise Refused("You may not use this application.", "policy", code="access_denied")
    address = str(ready.request.reply["service"])
    response = redirect_to(f"{address}{'&' if '?' in address else '?'}{urlencode({'ticket': ticket})}")
    forget_transaction(response, ready.transaction_id)
    return response


def _remember(unit: Unit, sid: str, ticket: str, logout_url: str) -> None:
    """Keep the ticket: the service knows the session that it made from it by this name, and logout must say it."""
    row = unit.db.execute(
        select(SessionParticipant).where(SessionParticipant.sid == sid).with_for_update()
    ).scalar_one()
    kept = [one for one in row.data.get("tickets", ()) if one[0] != ticket]
    row.data = {"tickets": [*kept, [ticket, logout_url]][-TICKETS_KEPT:]}


def _issue(unit: Unit, sign_in: SignIn) -> str:
    """A service ticket in the alphabet of §3.7."""
    address = str(sign_in.reply["service"])
    found = use(Registry).current().cas(address)
    if found is None:
        raise Invalid("This application is not registered here.", code="unregistered_service")
    ticket = f"ST-{random.token_hex(24)}"
    released: dict[str, Any] = aliased_for(sign_in.app, sign_in.released)
    released |= {
        "authenticationDate": sign_in.auth_time.isoformat(timespec="seconds"),
        "isFromNewLogin": sign_in.fresh_credentials,
        "longTermAuthenticationRequestTokenUsed": False,
    }
    unit.db.add(
        ServiceTicket(
            ticket_hash=digest(ticket),
            service=address,
            application_id=sign_in.app.id,
            user_id=sign_in.user_id,
            session_id=sign_in.session_id,
            fresh_credentials=sign_in.fresh_credentials,
            detail={"user": sign_in.login, "attributes": released, "person": str(sign_in.person_id)},
            expires_at=unit.now + timedelta(seconds=found.ticket_ttl_s),
        )
    )
    if found.logout_url:
        _remember(unit, sign_in.session_sid, ticket, found.logout_url)
    unit.record(
        Record(
            kind=Kind.TICKET_ISSUED,
            result="success",
            user=sign_in.user_id,
            person=sign_in.person_id,
            session=sign_in.session_id,
            application=sign_in.app.code,
            data={"service": address[:512]},
        )
    )
    return ticket
