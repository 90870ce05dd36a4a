"""The SAML pages: single sign-on by Redirect and POST, IdP-initiated, metadata."""

from __future__ import annotations

import base64
from typing import Any

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry, Sp
from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, page_policy, public, request_now, use
from identity.keys.keyring import Keyring
from identity.login import flow, service
from identity.login.doors import enter, forget_transaction, request_of, resume
from identity.login.request import LoginRequest, Ready, SignIn
from identity.saml import bindings, response
from identity.saml import metadata as documents
from identity.saml.errors import STATUS, Answerable
from identity.saml.logout import remember
from identity.saml.name_id import name_of, user_of
from identity.saml.ours import current_key, entity_id
from identity.saml.request import AuthnRequest, read, stated_class

bp = Blueprint("saml", __name__)


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
    posted = request.method == "POST"
    try:
        message = bindings.from_post(request.form) if posted else bindings.from_redirect(_raw_query())
        wanted = read(message, apps, here, request_now())
    except Answerable as error:
        return _refuse(error.code, error.reply, error.detail)
    except Invalid as error:
        record = Record(kind=Kind.SAML_REQUEST_REFUSED, result="refused", reason=error.code)
        record.data = {"detail": error.detail}
        with open_unit(write=False) as unit:
            unit.record(record)
        raise
    answer = enter(_login_request(wanted), cross_site_post=posted)
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/saml/start/<code>")
@public("IdP-initiated sign-in of an application that allows it")
def start(code: str) -> Response:
    """Begin at our side (Profiles §4.1.5); only where the registration allows it."""
    sp = use(Registry).current().sp_of(code)
    if sp is None or not sp.app.active or not sp.options.get("idp_initiated") or not sp.acs:
        raise NotFound("There is no such application.")
    acs = next((one for one in sp.acs if one.default), sp.acs[0])
    reply: dict[str, Any] = {
        "entity_id": sp.entity_id,
        "acs": acs.url,
        "request_id": None,
        "relay_state": None,
        "name_id_format": sp.name_id_format,
        "allow_create": True,
        "classes": [],
    }
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
    required = None
    if wanted.subject is not None:
        with open_unit(write=False) as unit:
            required = user_of(unit.db.connection(), wanted.sp, *wanted.subject)
    prompts = {name for name, asked in (("login", wanted.force_authn), ("none", wanted.is_passive)) if asked}
    return LoginRequest(
        app_id=wanted.sp.app.id,
        door="saml",
        prompts=frozenset(prompts),
        acr=wanted.context.acr if wanted.context else None,
        required_user=required,
        reply={
            "entity_id": wanted.sp.entity_id,
            "acs": wanted.acs.url,
            "request_id": wanted.id,
            "relay_state": wanted.relay_state,
            "name_id_format": wanted.name_id_format,
            "allow_create": wanted.allow_create,
            "classes": list(wanted.context.classes) if wanted.context else [],
        },
        return_to=wanted.acs.url,
    )


def _finish(ready: Ready) -> Response:
    """Build the assertion in the Unit that finishes the sign-in; it leaves after the commit."""
    body, reason, detail = b"", "access_denied", ""
    try:
        with open_unit() as unit:
            unit.actor = service.user_actor(unit, ready.session.user_id, ready.session.id)
            outcome = flow.finish(unit, ready, use(Access), use(Registry))
            if isinstance(outcome, SignIn):
                body = _assert(unit, outcome)
    except Answerable as error:
        reason, detail = error.code, error.detail
    page = _post(ready.request.reply, body) if body else _refuse(reason, ready.request.reply, detail)
    forget_transaction(page, ready.transaction_id)
    return page


def _assert(unit: Unit, sign_in: SignIn) -> bytes:
    sp, asked = _sp(sign_in.reply), sign_in.reply
    name_format = str(asked["name_id_format"])
    name_id = name_of(
        unit.db.connection(), sp, sign_in, name_format, allow_create=bool(asked["allow_create"]), now=unit.now
    )
    if sp.options.get("slo_url"):
        remember(unit, sign_in.session_sid, sp.entity_id, name_id, name_format)
    statement = response.Statement(
        issuer=entity_id(use(Settings)),
        audience=sp.entity_id,
        acs_url=str(asked["acs"]),
        in_response_to=asked["request_id"],
        name_id=name_id,
        name_id_format=name_format,
        session_index=sign_in.session_sid,
        session_expires_at=sign_in.session_expires_at,
        auth_time=sign_in.auth_time,
        context_class=stated_class(sign_in.acr, asked["classes"]),
        attributes=sign_in.released,
        aliases=sign_in.app.claim_aliases,
        attribute_format=str(sp.options.get("attribute_format", "basic")),
        sign_response=bool(sp.options.get("sign_response")),
        encrypt_for=sp.encryption_certificate if sp.options.get("encrypt") else None,
    )
    body = response.build(statement, current_key(use(Keyring)), unit.now)
    unit.record(
        Record(
            kind=Kind.ASSERTION_ISSUED,
            result="success",
            user=sign_in.user_id,
            person=sign_in.person_id,
            session=sign_in.session_id,
            application=sign_in.app.code,
            data={"in_response_to": asked["request_id"], "attributes": sorted(statement.attributes)},
        )
    )
    return body


def _refuse(reason: str, reply: Any, detail: str = "") -> Response:
    """A status for the service provider in the place of an assertion."""
    sp = _sp(reply)
    status, second = STATUS.get(reason, STATUS["access_denied"])
    record = Record(kind=Kind.SAML_REQUEST_REFUSED, result="refused", reason=reason, application=sp.app.code)
    record.data = {"detail": detail} if detail else {}
    with open_unit(write=False) as unit:
        unit.record(record)
    key = current_key(use(Keyring))
    issuer = entity_id(use(Settings))
    body = response.build_error(issuer, reply["acs"], reply["request_id"], status, second, key, request_now())
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
    # Where the service provider sends the browser on to from its consumer service is its own affair.
    page_policy(page, (reply["acs"],), any_https=True)
    return page


def _raw_query() -> str:
    return request.query_string.decode("latin-1")


def _sp(reply: Any) -> Sp:
    sp = use(Registry).current().sp(str(reply["entity_id"]))
    if sp is None or not sp.app.active:
        raise Invalid("This application is not registered here.", code="unknown_sp")
    return sp
