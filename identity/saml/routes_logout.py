"""The SAML logout pages: messages of service providers, and the way of a browser from one to the next."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, make_response, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from identity.apps.registry import Registry
from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound
from identity.core.hot import parse_uuid
from identity.core.record import Actor, Record
from identity.core.secrets import equal
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, public, redirect_to, request_now, use
from identity.keys.keyring import Keyring
from identity.login.logout import LogoutNotifiers, end_session
from identity.saml import bindings, logout
from identity.saml.logout import LogoutRequest, LogoutResponse
from identity.saml.models import SamlLogoutLeg
from identity.saml.ours import current_key, entity_id

bp = Blueprint("saml_logout", __name__)


@bp.route("/saml/slo", methods=["GET", "POST"])
@public("SAML single logout endpoint: takes messages that a service provider signed", csrf=False)
def slo() -> Response:
    """A LogoutRequest ends the sessions that it names; a LogoutResponse moves the browser on.

    Neither reads the browser's session: the message says whose it is, and its signature who says so.
    """
    try:
        posted = request.method == "POST"
        query = request.query_string.decode("latin-1")
        message = bindings.from_post(request.form) if posted else bindings.from_redirect(query)
        here = f"{use(Settings).public_url}/saml/slo"
        read = logout.read(message, use(Registry).current(), here, request_now())
        if isinstance(read, LogoutResponse):
            with open_unit() as unit:
                return redirect_to(_onward(logout.settle(unit, read)))
    except Invalid as error:
        record = Record(kind=Kind.SAML_REQUEST_REFUSED, result="refused", reason=error.code)
        record.data = {"detail": error.detail}
        with open_unit(write=False) as unit:
            unit.record(record)
        raise
    return _end(read, message.relay_state)


@bp.get("/saml/logout/<run>")
@public("a logout under way; its address is a secret of the browser")
def walk(run: str) -> Response:
    """The next service provider, or the end. Loading it again goes on where an unreachable one stopped it."""
    session_id = parse_uuid(run.partition(".")[0])
    if session_id is None or not equal(run, _run(session_id)):
        raise NotFound("There is no such page.")
    apps = use(Registry).current()
    with open_unit() as unit:
        leg = logout.next_leg(unit, session_id)
    if leg is not None:
        sp = apps.sp(leg.entity_id)
        if sp is None or not sp.options.get("slo_url"):
            return redirect_to(_onward(session_id))
        address = str(sp.options["slo_url"])
        body = logout.request_xml(entity_id(use(Settings)), address, leg, request_now())
        return redirect_to(bindings.to_redirect(address, "SAMLRequest", body, None, current_key(use(Keyring))))
    with open_unit(write=False) as unit:
        legs = logout.legs_of(unit, session_id)
    missed = [one.entity_id for one in legs if one.state not in {"asked", "confirmed"}]
    asked = next((one for one in legs if one.state == "asked"), None)
    if asked is not None:
        # Core §3.7.3.2: PartialLogout says that not every participant is known to have heard.
        return _answer(
            asked.entity_id, asked.request_id, asked.relay_state, "Success", "PartialLogout" if missed else None
        )
    found = [sp.app for one in missed if (sp := apps.sp(one)) is not None]
    return make_response(render_template("login/signed_out.html", missed=found))


def onward(unit: Unit, session_id: UUID) -> str | None:
    """Where a browser that ended this session goes, when service providers must still hear of it."""
    unit.db.flush()
    query = select(SamlLogoutLeg.id).where(SamlLogoutLeg.session_id == session_id, SamlLogoutLeg.state == "waiting")
    return _onward(session_id) if unit.db.execute(query.limit(1)).first() is not None else None


def _end(wanted: LogoutRequest, relay_state: str | None) -> Response:
    ended: list[UUID] = []
    with open_unit(actor=Actor("application", wanted.sp.app.code, wanted.sp.app.name)) as unit:
        for session_id in logout.sessions_meant(unit.db.connection(), wanted):
            if end_session(unit, session_id, "saml_logout", use(LogoutNotifiers)):
                logout.note_asked(unit, wanted, session_id, relay_state)
                ended.append(session_id)
    if not ended:
        record = Record(kind=Kind.SAML_REQUEST_REFUSED, result="refused", reason="unknown_session")
        record.application = wanted.sp.app.code
        with open_unit(write=False) as unit:
            unit.record(record)
        return _answer(wanted.sp.entity_id, wanted.id, relay_state, "Requester", "UnknownPrincipal")
    return redirect_to(_onward(ended[0]))


def _answer(to: str, request_id: str, relay_state: str | None, status: str, second: str | None) -> Response:
    """The LogoutResponse that the service provider waits for, by Redirect."""
    sp = use(Registry).current().sp(to)
    if sp is None or not sp.options.get("slo_url"):
        raise Invalid("This application is not registered here.", code="unknown_sp")
    address = str(sp.options["slo_url"])
    body = logout.response_xml(entity_id(use(Settings)), address, request_id, status, second, request_now())
    return redirect_to(bindings.to_redirect(address, "SAMLResponse", body, relay_state, current_key(use(Keyring))))


def _onward(session_id: UUID) -> str:
    return f"/saml/logout/{_run(session_id)}"


def _run(session_id: UUID) -> str:
    """The address of a logout: nobody can guess it, and it is no session."""
    return f"{session_id}.{use(Keyring).derive('saml-logout', str(session_id)).hex()}"
