"""RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.core.errors import Invalid
from identity.core.hot import parse_fields
from identity.core.settings import Settings
from identity.core.web import delete_cookie, open_unit, public, redirect_to, request_now, set_cookie, use
from identity.keys.keyring import Keyring
from identity.login import service
from identity.login.doors import current_session, forget_transaction, load_transaction
from identity.login.logout import LogoutNotifiers, end_session, takes_part
from identity.login.request import LoginRequest
from identity.oauth.tokens import Tokens

bp = Blueprint("oauth_logout", __name__)

DOOR = "oauth-logout"
STATE_MAX = 4_096
# Where the person is asked whether to sign out: the answer to every request that proves nothing.
ASK = "/logout"


@bp.post("/oauth/logout")
@public("a client's page may post here; the request is stored and answered 303", csrf=False)
def post_logout() -> Response:
    """A cross-site POST comes without the session's cookie: what it asks is kept for our own GET (foundations §7)."""
    asked = _parse(parse_fields(request.get_data().decode("latin-1")))
    if asked is None:
        return redirect_to(ASK)
    with open_unit() as unit:
        transaction_id, secret = service.begin(unit, LoginRequest(app_id=None, door=DOOR, reply=asked))
    response = redirect_to(f"/oauth/logout?tx={transaction_id}")
    set_cookie(response, f"tx-{transaction_id}", secret, service.TRANSACTION_S)
    return response


@bp.get("/oauth/logout")
@public("acts only on an id_token_hint of this browser's own session", csrf=False)
def logout() -> Response:
    """With an ID token of this very session it ends; in every other case the person is asked (§2, §6)."""
    parameters = parse_fields(request.query_string.decode("latin-1"))
    transaction_id = None
    if "tx" in parameters:
        with open_unit(write=False) as unit:
            transaction = load_transaction(unit, parameters["tx"], DOOR)
            asked = LoginRequest.from_json(transaction.request).reply
            transaction_id = transaction.id
    else:
        asked = _parse(parameters) or {}
    if not asked:
        return redirect_to(ASK)
    with open_unit() as unit:
        session = current_session(unit)
        if session is not None:
            user = use(Access).snapshot().user(session.user_id)
            if user is None or user.sub != asked["sub"] or not takes_part(unit, session.id, asked["sid"]):
                return redirect_to(ASK)
            unit.actor = service.user_actor(unit, session.user_id, session.id)
            end_session(unit, session.id, "logout", use(LogoutNotifiers))
    back = asked["back"]
    if back:
        response: Response = redirect_to(with_fields(back, {"state": asked["state"]} if asked["state"] else {}))
    else:
        response = make_response(render_template("login/signed_out.html"))
    delete_cookie(response, "sid")
    forget_transaction(response, transaction_id)
    return response


def _parse(parameters: Mapping[str, str]) -> dict[str, str] | None:
    """Who is to be signed out and where the browser goes then; None when that is not proven by an ID token of ours."""
    tokens = Tokens(use(Settings).public_url, use(Keyring), use(Settings).access_token_ttl_s)
    try:
        hint = tokens.read_id_token_hint(parameters.get("id_token_hint", ""), request_now())
    except Invalid:
        return None
    audience, back = str(hint.get("aud", "")), parameters.get("post_logout_redirect_uri", "")
    client = use(Registry).current().client(audience)
    # §2: "the OP MUST verify that the Client Identifier matches the one used when issuing the ID Token."
    if client is None or not client.app.active or parameters.get("client_id", audience) != audience:
        return None
    # §3: "The value of post_logout_redirect_uri MUST have been previously registered", compared as a string.
    if back and back not in client.post_logout_redirect_uris:
        return None
    state = parameters.get("state", "")
    return {
        "sub": str(hint.get("sub", "")),
        "sid": str(hint.get("sid", "")),
        "back": back,
        "state": state if len(state) <= STATE_MAX else "",
    }


def with_fields(address: str, fields: Mapping[str, str]) -> str:
    """The address with these query fields added."""
    if not fields:
        return address
    return f"{address}{'&' if '?' in address else '?'}{urlencode(fields)}"
