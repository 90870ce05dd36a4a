"""The application behind a call of a door for machines."""

from __future__ import annotations

from identity.apps import authenticate
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.core.hot import HotCall
from identity.core.record import Record

CHALLENGE = ("WWW-Authenticate", 'Basic realm="tessera"')


def known_caller(call: HotCall, registry: Registry) -> App:
    """The application that proved itself, from then on the call's actor.

    Who does not is recorded, durable before the answer leaves; raises `authenticate.InvalidClient`.
    """
    try:
        app = authenticate.application(registry.current(), call.header("Authorization"))
    except authenticate.InvalidClient:
        call.pending.append(Record(kind=Kind.CALLER_REFUSED, result="refused", reason="invalid_client"))
        raise
    call.actor = authenticate.as_actor(app)
    return app
