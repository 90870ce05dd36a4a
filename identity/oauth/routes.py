"""The OAuth pages: authorization and RP-initiated logout."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Client, Registry
from identity.audit.kinds import Kind
from identity.claims.release import scopes_of
from identity.core.errors import Invalid
from identity.core.hot import parse_pairs, parse_uuid
from identity.core.record import Record
from identity.core.secrets import digest, new_secret
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.core.web import open_unit, public, redirect_to, request_now, use
from identity.keys.keyring import Keyring
from identity.login import flow, service
from identity.login.doors import enter, forget_transaction, request_of, resume
from identity.login.request import LoginRequest, Ready, Refusal, SignIn
from identity.oauth import checks
from identity.oauth.models import AuthorizationCode, OAuthGrant
from identity.oauth.routes_logout import with_fields
from identity.oauth.tokens import Tokens

bp = Blueprint("oauth", __name__)

_REFUSALS = {
    "login_required": "login_required",
    "interaction_required": "interaction_required",
    "consent_required": "consent_required",
    "unmet_acr": "unmet_authentication_requirements",
    "wrong_user": "login_required",
}


@bp.route("/oauth/authorize", methods=["GET", "POST"])
@public("OAuth authorization endpoint", csrf=False)
def authorize() -> Response:
    """RFC 6749 §4.1.1; a POST is stored and answered 303, since it may come from another site."""
    posted = request.method == "POST"
    parameters, repeated = parse_pairs((request.get_data() if posted else request.query_string).decode("latin-1"))
    apps = use(Registry).current()
    wanted = checks.prove_redirect(apps, parameters, repeated)
    try:
        checks.check(wanted, apps)
        login = _login_request(wanted)
    except checks.RedirectError as error:
        state = None if "state" in repeated else wanted.parameters.get("state")
        return _refuse(wanted.client, wanted.redirect_uri, state, error.error, error.description)
    answer = enter(login, cross_site_post=posted)
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/oauth/resume")
@public("a step of a login; bound to the browser by the transaction's cookie")
def resume_page() -> Response:
    """Where the login pages return to."""
    tx = request.args.get("tx", "")
    answer = resume(tx, "oauth")
    if isinstance(answer, flow.Refuse):
        response = _refusal(answer.reason, request_of(tx, "oauth").reply)
        forget_transaction(response, parse_uuid(tx))
        return response
    return _finish(answer) if isinstance(answer, Ready) else answer


def _login_request(wanted: checks.AuthorizationRequest) -> LoginRequest:
    parameters, client = wanted.parameters, wanted.client
    prompts = wanted.prompts
    if client.public and not wanted.redirect_uri.startswith("https://"):
        # RFC 8252 §8.6: another program of this device may pose as a native client, so the person is asked each time.
        prompts |= {"consent"}
    reply: dict[str, Any] = {
        "client_id": client.client_id,
        "redirect_uri": wanted.redirect_uri,
        "state": parameters.get("state"),
        "nonce": wanted.nonce,
        "code_challenge": wanted.code_challenge,
        "scopes": list(wanted.scopes),
        "resource": wanted.resource,
        "claims": {place: wanted.claim_names(place) for place in checks.CLAIM_PLACES},
    }
    named = [name for names in reply["claims"].values() for name in names]
    # OpenID Connect Core §11: access without the person's presence needs his consent, or an administrator's grant.
    offline = "offline_access" in wanted.scopes and not client.options.get("offline_without_consent")
    return LoginRequest(
        app_id=client.app.id,
        door="oauth",
        prompts=prompts,
        max_age_s=wanted.max_age_s,
        acr=wanted.acr,
        required_user=_required_user(wanted),
        login_hint=parameters.get("login_hint", "")[:256] or None,
        claims=wanted.claims,
        reply=reply,
        return_to=wanted.redirect_uri,
        require_consent=offline or bool(client.options.get("require_consent")),
        scopes=tuple(dict.fromkeys((*wanted.scopes, *scopes_of(named)))),
    )


def _required_user(wanted: checks.AuthorizationRequest) -> UUID | None:
    """Whom the client expects, by an earlier ID token or the claims parameter; a person who is no more cannot come."""
    subjects = set()
    if "id_token_hint" in wanted.parameters:
        tokens = Tokens(use(Settings).public_url, use(Keyring), use(Settings).access_token_ttl_s)
        try:
            subjects.add(tokens.read_id_token_hint(wanted.parameters["id_token_hint"], request_now()).get("sub"))
        except Invalid:
            raise checks.RedirectError("invalid_request", "id_token_hint is not valid") from None
    sub = wanted.claims.get("id_token", {}).get("sub")
    if isinstance(sub, dict) and "value" in sub:
        subjects.add(str(sub["value"]))
    if not subjects:
        return None
    user = use(Access).snapshot().by_sub.get(str(subjects.pop())) if len(subjects) == 1 else None
    if user is None:
        raise checks.RedirectError("login_required", "this person cannot sign in")
    return user


def _finish(ready: Ready) -> Response:
    """Store a code in the Unit that finishes the sign-in, and send the browser back with it."""
    with open_unit() as unit:
        unit.actor = service.user_actor(unit, ready.session.user_id, ready.session.id)
        outcome = flow.finish(unit, ready, use(Access), use(Registry))
        code = _store_code(unit, outcome) if isinstance(outcome, SignIn) else None
    if isinstance(outcome, Refusal) or code is None:
        response = _refusal(outcome.reason if isinstance(outcome, Refusal) else "access_denied", ready.request.reply)
    else:
        reply = ready.request.reply
        response = redirect_to(_answer(reply["redirect_uri"], {"code": code}, reply.get("state")))
    forget_transaction(response, ready.transaction_id)
    return response


def _store_code(unit: Unit, sign_in: SignIn) -> str | None:
    reply = sign_in.reply
    client = use(Registry).current().client(reply["client_id"])
    if client is None:
        return None
    code = new_secret("code")
    offline = "offline_access" in reply["scopes"]
    grant = OAuthGrant(
        client_id=client.id,
        user_id=sign_in.user_id,
        session_id=None if offline else sign_in.session_id,
        scopes=list(reply["scopes"]),
        detail={
            "auth_time": int(sign_in.auth_time.timestamp()),
            "acr": sign_in.acr,
            "amr": list(sign_in.amr),
            "sid": sign_in.session_sid,
            "resource": reply.get("resource"),
            "claims": reply.get("claims", {}),
        },
        created_at=unit.now,
    )
    unit.db.add(grant)
    unit.db.flush()
    unit.db.add(
        AuthorizationCode(
            code_hash=digest(code),
            grant_id=grant.id,
            redirect_uri=reply["redirect_uri"],
            code_challenge=reply.get("code_challenge"),
            nonce=reply.get("nonce"),
            expires_at=unit.now + timedelta(seconds=use(Settings).code_ttl_s),
        )
    )
    unit.record(
        Record(
            kind=Kind.CODE_ISSUED,
            result="success",
            user=sign_in.user_id,
            person=sign_in.person_id,
            session=sign_in.session_id,
            application=sign_in.app.code,
            data={"grant": str(grant.id), "scopes": list(reply["scopes"])},
        )
    )
    return code


def _refusal(reason: str, reply: Any) -> Response:
    client = use(Registry).current().client(reply["client_id"])
    if client is None or not client.app.active:
        raise Invalid("This application is not registered here.", code="unknown_client")
    error = _REFUSALS.get(reason, "access_denied")
    return _refuse(client, reply["redirect_uri"], reply.get("state"), error, "")


def _refuse(client: Client, redirect_uri: str, state: str | None, error: str, description: str) -> Response:
    with open_unit(write=False) as unit:
        unit.record(
            Record(
                kind=Kind.AUTHORIZATION_REFUSED,
                result="refused",
                reason=error,
                application=client.app.code,
                data={"detail": description},
            )
        )
    fields = {"error": error, **({"error_description": description} if description else {})}
    return redirect_to(_answer(redirect_uri, fields, state))


def _answer(redirect_uri: str, fields: dict[str, str], state: str | None) -> str:
    """RFC 6749 §4.1.2 with `iss` (RFC 9207 §2)."""
    if state is not None:
        fields["state"] = state
    return with_fields(redirect_uri, {**fields, "iss": use(Settings).public_url})
