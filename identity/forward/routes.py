"""The pages on our own origin through which a browser comes to a session at a proxied host."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlencode

from flask import Blueprint, request
from werkzeug.wrappers import Response

from identity.access.decide import Access
from identity.apps.registry import Registry
from identity.core.errors import Invalid, Refused
from identity.core.secrets import digest, new_secret
from identity.core.unit import Unit
from identity.core.web import open_unit, public, redirect_to, use
from identity.forward import wire
from identity.forward.models import ForwardCode
from identity.login import flow, service
from identity.login.doors import enter, forget_transaction, resume
from identity.login.request import LoginRequest, Ready, Refusal, SignIn

CODE_S = 60
_HASH = re.compile(r"[A-Za-z0-9_-]{43}")

bp = Blueprint("forward", __name__)


@bp.get("/forward/start")
@public("where a proxied host sends people to sign in; leads back to registered hosts only")
def start() -> Response:
    """Sign in for a proxied host. Host and path are checked anew: anybody can write this address."""
    origin, path, state = (request.args.get(name, "") for name in ("host", "path", "state"))
    host = use(Registry).current().forwards.get(origin)
    if host is None or not host.app.active:
        raise Invalid("This application is not registered here.", origin[:512], code="forward_host")
    wire.resource_of(path)
    if not _HASH.fullmatch(state):
        raise Invalid("The request is not valid.", "state", code="invalid_request")
    wanted = LoginRequest(
        app_id=host.app.id,
        door="forward",
        reply={"host": origin, "path": path, "state": state},
        return_to=origin,
    )
    answer = enter(wanted)
    return _finish(answer) if isinstance(answer, Ready) else answer


@bp.get("/forward/resume")
@public("a step of a login; bound to the browser by the transaction's cookie")
def resume_page() -> Response:
    """Where the login pages return to."""
    answer = resume(request.args.get("tx", ""), "forward")
    if isinstance(answer, flow.Refuse):
        raise Refused("You cannot sign in to this application.", answer.reason, code=answer.reason)
    return _finish(answer) if isinstance(answer, Ready) else answer


def _finish(ready: Ready) -> Response:
    code: str | None = None
    with open_unit() as unit:
        unit.actor = service.user_actor(unit, ready.session.user_id, ready.session.id)
        outcome = flow.finish(unit, ready, use(Access), use(Registry))
        if isinstance(outcome, SignIn):
            code = _issue(unit, outcome)
    if isinstance(outcome, Refusal) or code is None:
        raise Refused("You may not use this application.", "policy", code="access_denied")
    response = redirect_to(f"{ready.request.reply['host']}{wire.CALLBACK}?{urlencode({'code': code})}")
    forget_transaction(response, ready.transaction_id)
    return response


def _issue(unit: Unit, sign_in: SignIn) -> str:
    reply = sign_in.reply
    host = use(Registry).current().forwards.get(reply["host"])
    if host is None or host.app.id != sign_in.app.id:
        raise Invalid("This application is not registered here.", code="forward_host")
    code = new_secret("fwc")
    unit.db.add(
        ForwardCode(
            code_hash=digest(code),
            state_hash=reply["state"],
            host_id=host.id,
            user_id=sign_in.user_id,
            session_id=sign_in.session_id,
            sid=sign_in.session_sid,
            acr=sign_in.acr,
            return_to=reply["path"],
            session_expires_at=sign_in.session_expires_at,
            expires_at=unit.now + timedelta(seconds=CODE_S),
        )
    )
    return code
