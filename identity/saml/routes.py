"""The SAML pages: single sign-on by Redirect and POST, IdP-initiated, metadata."""

from __future__ import annotations

import base64
import secrets as random
from typing import Any

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry, Sp
from identity.apps.service import app_account
from identity.audit.kinds import Kind
from identity.claims.release import aliased_for
from identity.core.errors import Invalid, NotFound, Unavailable
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, page_policy, public, request_now, use
from identity.keys.keyring import CertificateKey, Keyring
from identity.login import flow, service
from identity.login.doors import enter, forget_transaction, request_of, resume
from identity.login.request import LoginRequest, Ready, Refusal, SignIn
from identity.saml import metadata as documents
from identity.saml import names, response
from identity.saml.request import AuthnRequest, from_post, from_redirect

bp = Blueprint("saml", __name__)

_STATUS = {
    "login_required": ("Responder", "NoPassive"),
    "interaction_required": ("Responder", "NoPassive"),
    "unmet_acr": ("Responder", "NoAuthnContext"),
    "wrong_user": ("Responder", "UnknownPrincipal"),
}


@bp.get("/saml/metadata")
@public("metadata")
def metadata() -> Response:
    """Our metadata."""
    body = documents.build(use(Settings).public_url, use(Keyring).certificate_keys("saml-sign"), request_now())
    return make_response(body, 200, {"Content-Type": "application/samlmetadata+xml"})


@bp.route("/saml/sso", methods=["GET", "POST"])
@public("SAML single sign-on endpoint", csrf=False)
def sso() -> Response:
    """An AuthnRequest; one that came by POST is stored and answered 303."""
    apps, here = use(Registry).current(), f"{use(Settings).public_url}/saml/sso"
    try:
        if request.method == "POST":
            message, relay = request.form.get("SAMLRequest", ""), request.form.get("RelayState")
            wanted = from_post(message, relay, apps, here, request_now())
        else:
            wanted = from_redirect(request.query_string.decode("latin-1"), apps, here, request_now())
    except Invalid as error:
        with open_unit(write=False) as unit:
            unit.record(
                Record(
                    kind=Kind.SAML_REQUEST_REFUSED,
                    result="refused",
                    reason=error.code,
                    data={"detail": error.detail},
                )
            )
        raise
    answer = enter(_login_request(wanted), cross_site_post=request.method == "POST")
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/saml/start/<code>")
@public("IdP-initiated sign-in of an application that allows it")
def start(code: str) -> Response:
    """Begin at our side (Profiles §4.1.5); only where the registration allows it."""
    sp = use(Registry).current().sp_of(code)
    if sp is None or not sp.app.active or not sp.options.get("idp_initiated") or not sp.acs:
        raise NotFound("There is no such application.")
    acs = next((one for one in sp.acs if one.default), sp.acs[0])
    reply = {"entity_id": sp.entity_id, "acs": acs.url, "request_id": None, "relay_state": None}
    answer = enter(LoginRequest(app_id=sp.app.id, door="saml", reply=reply, return_to=acs.url))
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/saml/resume")
@public("a step of a login; bound to the browser by the transaction's cookie")
def resume_page() -> Response:
    """Where the login pages return to."""
    tx = request.args.get("tx", "")
    answer = resume(tx, "saml")
    if isinstance(answer, flow.Refuse):
        return _refuse(answer.reason, request_of(tx, "saml").reply)
    return _finish(answer) if isinstance(answer, Ready) else answer


def _login_request(wanted: AuthnRequest) -> LoginRequest:
    prompts = {"login"} if wanted.force_authn else set()
    if wanted.is_passive:
        prompts = {"none"}
    return LoginRequest(
        app_id=wanted.sp.app.id,
        door="saml",
        prompts=frozenset(prompts),
        acr=wanted.acr,
        reply={
            "entity_id": wanted.sp.entity_id,
            "acs": wanted.acs.url,
            "request_id": wanted.id,
            "relay_state": wanted.relay_state,
        },
        return_to=wanted.acs.url,
    )


def _finish(ready: Ready) -> Response:
    """Build the assertion in the Unit that finishes the sign-in; it leaves after the commit."""
    body: bytes | None = None
    with open_unit() as unit:
        unit.actor = service.user_actor(unit, ready.session.user_id, ready.session.id)
        outcome = flow.finish(unit, ready, use(Access), use(Registry))
        if isinstance(outcome, SignIn):
            body = _assert(unit, outcome)
    if isinstance(outcome, Refusal) or body is None:
        page = _refuse("access_denied", ready.request.reply)
    else:
        page = _post(ready.request.reply, body)
    forget_transaction(page, ready.transaction_id)
    return page


def _assert(unit: Unit, sign_in: SignIn) -> bytes:
    sp = _sp(sign_in.reply)
    statement = response.Statement(
        issuer=f"{use(Settings).public_url}/saml/metadata",
        audience=sp.entity_id,
        acs_url=str(sign_in.reply["acs"]),
        in_response_to=sign_in.reply["request_id"],
        name_id=_name_id(unit, sp, sign_in),
        name_id_format=sp.name_id_format,
        session_index=sign_in.session_sid,
        session_expires_at=sign_in.session_expires_at,
        auth_time=sign_in.auth_time,
        acr=sign_in.acr,
        attributes=aliased_for(sign_in.app, sign_in.released),
        attribute_format=str(sp.options.get("attribute_format", "basic")),
        sign_response=bool(sp.options.get("sign_response")),
    )
    body = response.build(statement, _key(), unit.now)
    unit.record(
        Record(
            kind=Kind.ASSERTION_ISSUED,
            result="success",
            user=sign_in.user_id,
            person=sign_in.person_id,
            session=sign_in.session_id,
            application=sign_in.app.code,
            data={"in_response_to": sign_in.reply["request_id"], "attributes": sorted(statement.attributes)},
        )
    )
    return body


def _name_id(unit: Unit, sp: Sp, sign_in: SignIn) -> str:
    """The name by which this service provider knows the person (Core §8.3)."""
    account = app_account(unit.db.connection(), sp.app.id, sign_in.user_id, unit.now)
    if account.status != "active":
        raise Invalid("Your account in this application is disabled.", code="account_disabled")
    if sp.name_id_format == names.TRANSIENT:
        return f"_{random.token_hex(20)}"
    if sp.name_id_format == names.EMAIL:
        return str(sign_in.released.get("email") or account.name_id)
    return sign_in.login if sp.name_id_format == names.UNSPECIFIED else account.name_id


def _refuse(reason: str, reply: Any) -> Response:
    sp = _sp(reply)
    status, second = _STATUS.get(reason, ("Responder", "RequestDenied"))
    with open_unit(write=False) as unit:
        unit.record(Record(kind=Kind.SAML_REQUEST_REFUSED, result="refused", reason=reason, application=sp.app.code))
    issuer = f"{use(Settings).public_url}/saml/metadata"
    body = response.build_error(issuer, reply["acs"], reply["request_id"], status, second, _key(), request_now())
    return _post(reply, body)


def _post(reply: Any, body: bytes) -> Response:
    """The auto-posting form; its script is a file of ours, since pages carry no inline script."""
    page = make_response(
        render_template(
            "saml/post.html",
            acs=reply["acs"],
            message=base64.b64encode(body).decode(),
            relay_state=reply["relay_state"],
        )
    )
    page_policy(page, (reply["acs"],))
    return page


def _sp(reply: Any) -> Sp:
    sp = use(Registry).current().sp(str(reply["entity_id"]))
    if sp is None or not sp.app.active:
        raise Invalid("This application is not registered here.", code="unknown_sp")
    return sp


def _key() -> CertificateKey:
    keys = use(Keyring).certificate_keys("saml-sign")
    if not keys:
        raise Unavailable("The service has no key yet.", "no saml-sign key", code="no_key")
    return keys[0]
