"""The decision endpoints, in front of Flask: authenticate, decide, record durably, answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from identity.access.decide import Access, AccessRequest, Decided, evaluator, touches_duty
from identity.access.durable import DurableAccess
from identity.access.recorded import item_of
from identity.access.snapshot import Snapshot
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.authzen import wire
from identity.authzen.caller import Callers
from identity.authzen.search import SearchDoor
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.record import Record
from identity.core.secrets import new_id

GUARD = "application credentials (HTTP Basic)"


def routes(
    public_url: str, registry: Registry, access: Access, database: Database, recorder: Recorder
) -> list[HotRoute]:
    """The decision endpoints and the metadata document (§9)."""
    callers = Callers(registry, database, recorder)
    door = _Door(callers, access, database, recorder)
    searches = SearchDoor(callers, access, database, recorder)
    handlers = {
        "access_evaluation_endpoint": ("/access/v1/evaluation", door.evaluation),
        "access_evaluations_endpoint": ("/access/v1/evaluations", door.evaluations),
        "search_subject_endpoint": ("/access/v1/search/subject", searches.subject),
        "search_resource_endpoint": ("/access/v1/search/resource", searches.resource),
        "search_action_endpoint": ("/access/v1/search/action", searches.action),
    }
    metadata = {"policy_decision_point": public_url} | {
        name: f"{public_url}{path}" for name, (path, _) in handlers.items()
    }
    prompt = {door.evaluation, door.evaluations}
    return [
        *(HotRoute(path, ("POST",), handle, GUARD, prompt=handle in prompt) for path, handle in handlers.values()),
        HotRoute("/access/v1/resources", ("POST",), searches.register, GUARD),
        HotRoute(
            "/.well-known/authzen-configuration",
            ("GET",),
            lambda _: HotResponse.json(200, metadata),
            "public: metadata",
            prompt=True,
        ),
    ]


class _Door:
    def __init__(self, callers: Callers, access: Access, database: Database, recorder: Recorder) -> None:
        self._callers = callers
        self._access = access
        self._database = database
        self._recorder = recorder
        self._durable = DurableAccess(access, database, recorder)

    def evaluation(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluation (§6)."""
        return self._callers.guarded(call, self._evaluation)

    def evaluations(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluations (§7)."""
        return self._callers.guarded(call, self._evaluations)

    def _evaluation(self, call: HotCall, app: App) -> HotResponse:
        return HotResponse.made_json(self._one(call, app, call.json()))

    def _evaluations(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        if not isinstance(body, dict):
            raise Invalid("The request must be an object.", code="invalid_request")
        items = body.get("evaluations")
        if items is None or items == []:
            # Without items the request is one evaluation (§7.1).
            return HotResponse.made_json(self._one(call, app, body))
        if not isinstance(items, list) or len(items) > wire.EVALUATIONS_MAX:
            raise Invalid(f"evaluations must be a list of at most {wire.EVALUATIONS_MAX}.", code="invalid_request")
        stop = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(wire.semantic(body))
        snapshot = self._access.snapshot()
        batch = _Batch(app, stop, self._parse_items(call, body, app, snapshot))
        if touches_duty(snapshot, batch.requests):
            self._by_acts(call, batch, snapshot)
        else:
            batch.decide(evaluator(snapshot, call.now))
            call.records.append(batch.record())
            self._durable.record(call, app)
        return HotResponse.made_json(b'{"evaluations":[%b]}' % b",".join(batch.answers))

    def _parse_items(
        self, call: HotCall, body: dict[str, Any], app: App, snapshot: Snapshot
    ) -> list[AccessRequest | Invalid]:
        parse = wire.item_parser(body, app, snapshot, self._callers.resolver(call, app, snapshot))
        parsed: list[AccessRequest | Invalid] = []
        for item in body["evaluations"]:
            try:
                parsed.append(parse(item))
            except Invalid as error:
                parsed.append(error)
        return parsed

    def _one(self, call: HotCall, app: App, body: Any) -> bytes:
        """Decide one question, record it, and make the answer."""
        snapshot = self._access.snapshot()
        request = wire.parse(body, app, snapshot, self._callers.resolver(call, app, snapshot))
        decided = self._durable.decide(call, app, request, snapshot)
        return wire.answer(decided, call.records[-1].id, app)

    def _by_acts(self, call: HotCall, batch: _Batch, snapshot: Snapshot) -> None:
        """A batch that a duty rule names. Acts in it, their decisions and their record stand or fall in one transaction
        (foundations §4); its locks in sorted order, nothing decided behind the item that ends it."""
        call.may_wait()
        if all(one.intent == "ask" for one in batch.requests):
            with self._database.read() as connection:
                batch.decide(lambda one: self._access.perform(connection, snapshot, one, call.now))
            call.pending.append(batch.record())
            return
        with self._database.write() as connection:
            self._access.lock(connection, batch.requests)
            snapshot = self._access.snapshot()
            batch.decide(lambda one: self._access.perform(connection, snapshot, one, call.now))
            call.records.append(batch.record())
            self._recorder.write(connection, call, call.records, None)


class _Batch:
    """The items of an `/evaluations` call, what was decided of them, and their answers; one record holds them all."""

    def __init__(self, app: App, stop: bool | None, parsed: Sequence[AccessRequest | Invalid]) -> None:
        self.id = new_id()
        self.requests = [one for one in parsed if not isinstance(one, Invalid)]
        self.answers: list[bytes] = []
        self._app, self._stop, self._parsed = app, stop, parsed
        self._last: Decided | None = None
        self._items: list[dict[str, Any]] = []
        self._denied = 0

    def decide(self, evaluate: Callable[[AccessRequest], Decided]) -> None:
        """Decide the items in their order, up to the one that ends the semantic (§7.1.2.1)."""
        answers, items = self.answers, self._items
        # Of one snapshot and one record, so that what is equal here is answered alike.
        known: dict[Any, bytes] = {}
        for one in self._parsed:
            if isinstance(one, Invalid):
                permit = False
                answers.append(wire.item_error(one))
            else:
                decided = self._last = evaluate(one)
                permit = decided.permit
                self._denied += not permit
                items.append(item_of(one, decided))
                if decided.obligations:
                    answers.append(wire.answer(decided, self.id, self._app))
                else:
                    key = (permit, decided.reason, decided.rules)
                    answer = known.get(key)
                    if answer is None:
                        answer = known[key] = wire.answer(decided, self.id, self._app)
                    answers.append(answer)
            if permit is self._stop:
                break

    def record(self) -> Record:
        """One record for the whole batch, with its items."""
        return Record(
            kind=Kind.DECISIONS_MADE,
            result="deny" if self._denied else "permit",
            application=self._app.code,
            policy_version=self._last.policy_version if self._last else None,
            facts_revision=self._last.facts_revision if self._last else None,
            data={"permitted": len(self._items) - self._denied, "denied": self._denied, "items": self._items},
            id=self.id,
        )
