"""Why a decision is as it is, over HTTP, for applications that hold the right `explain` or `audit`."""

from __future__ import annotations

from identity.access.decide import Access
from identity.access.explain import Explanation, explain, explain_record, read_record
from identity.access.replay import Question
from identity.api.door import Door
from identity.api.explanation import as_data
from identity.apps.registry import App, Registry
from identity.audit.recorder import Recorder
from identity.authzen import wire
from identity.authzen.caller import Callers
from identity.core.db import Database
from identity.core.errors import Invalid, NotFound
from identity.core.hot import HotCall, HotResponse, HotRoute, parse_uuid

GUARD = "application credentials (HTTP Basic) with the right explain (its own decisions) or audit (all)"
RIGHTS = frozenset({"explain", "audit"})
REFUSAL = "This application may not read explanations."


def routes(door: Door, registry: Registry, access: Access, database: Database, recorder: Recorder) -> list[HotRoute]:
    """`/api/v1/explanations`: GET ?record=…&item=…, or POST with an AuthZEN evaluation request."""
    explanations = _Explanations(door, registry, access, database, recorder)
    return [HotRoute("/api/v1/explanations", ("GET", "POST"), explanations.answer, GUARD)]


class _Explanations:
    def __init__(self, door: Door, registry: Registry, access: Access, database: Database, recorder: Recorder) -> None:
        self._door = door
        self._registry = registry
        self._access = access
        self._database = database
        self._callers = Callers(registry, database, recorder)

    def answer(self, call: HotCall) -> HotResponse:
        """The explanation; that it was read is recorded before it leaves."""
        return self._door.guarded(call, RIGHTS, REFUSAL, self._answer)

    def _answer(self, call: HotCall, app: App) -> HotResponse:
        found = self._present(call, app) if call.method == "POST" else self._past(call, app)
        self._door.record(call, read_record(found))
        english, chinese = wire.REASONS.get(found.reason, wire.REASONS["no_permission"])
        return HotResponse.json(200, {**as_data(found), "reason_user": {"en": english, "zh": chinese}})

    def _past(self, call: HotCall, app: App) -> Explanation:
        """Of a recorded decision; that of another application is not there for one without the right `audit`."""
        query = call.query()
        record_id, item = parse_uuid(query.get("record", "")), query.get("item")
        if record_id is None or (item is not None and not (item.isascii() and item.isdigit() and len(item) < 6)):
            raise Invalid("record must be the id of a record, item a number.", code="invalid_request")
        with self._database.read(consistent=True) as connection:
            found = explain_record(connection, record_id, None if item is None else int(item))
        if found is None or ("audit" not in app.rights and found.request.application != app.code):
            raise NotFound("There is no such decision, or it cannot be found yet.")
        return found

    def _present(self, call: HotCall, app: App) -> Explanation:
        """Of a question that is put now, about the caller's own application or, with the right `audit`, another."""
        named = call.query().get("application", app.code)
        target = app if named == app.code else self._registry.current().application(named)
        if target is None or (target is not app and "audit" not in app.rights):
            raise NotFound("There is no such application.")
        snapshot = self._access.snapshot()
        request = wire.parse(call.json(), target, snapshot, self._callers.resolver(call, target, snapshot))
        with self._database.read(consistent=True) as connection:
            acts, activations = self._access.known(connection, snapshot, request, call.now)
            return explain(connection, Question(snapshot, request, call.now, acts, activations))
