"""Who may use the API for machines: applications by their own credentials, each within its rights."""

from __future__ import annotations

from collections.abc import Callable

from identity.apps.authenticate import InvalidClient
from identity.apps.caller import CHALLENGE, known_caller
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.core.errors import NotFound
from identity.core.hot import HotCall, HotResponse
from identity.core.record import Record


class Door:
    """Authenticates and checks the right; what is refused is recorded."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder

    def guarded(
        self, call: HotCall, rights: frozenset[str], refusal: str, handle: Callable[[HotCall, App], HotResponse]
    ) -> HotResponse:
        """What `handle` answers to an application that has one of these rights; `refusal` is said to others."""
        try:
            app = known_caller(call, self._registry)
        except InvalidClient as error:
            return HotResponse.json(401, {"error": "invalid_client", "error_description": error.public}, CHALLENGE)
        if app.rights.isdisjoint(rights):
            self.record(call, Record(kind=Kind.CALLER_REFUSED, result="refused", reason="no_right"))
            return HotResponse.json(403, {"error": "access_denied", "error_description": refusal})
        try:
            return handle(call, app)
        except NotFound as error:
            return HotResponse.json(404, {"error": "not_found", "error_description": error.public})

    def record(self, call: HotCall, record: Record) -> None:
        """Durable before the answer leaves."""
        call.records.append(record)
        self._recorder.submit(call, call.records)
