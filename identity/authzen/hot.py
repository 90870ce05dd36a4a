"""The decision endpoints, in front of Flask: authenticate, decide, record durably, answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from identity.access.decide import Access, AccessRequest, Decided
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
    return [
        *(HotRoute(path, ("POST",), handle, GUARD) for path, handle in handlers.values()),
        HotRoute("/access/v1/resources", ("POST",), searches.register, GUARD),
        HotRoute(
            "/.well-known/authzen-configuration",
            ("GET",),
            lambda _: HotResponse.json(200, metadata),
            "public: metadata",
        ),
    ]


class _Door:
    def __init__(self, callers: Callers, access: Access, database: Database, recorder: Recorder) -> None:
        self._callers = callers
        self._access = access
        self._database = database
        self._recorder = recorder

    def evaluation(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluation (§6)."""
        return self._callers.guarded(call, self._evaluation)

    def evaluations(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluations (§7)."""
        return self._callers.guarded(call, self._evaluations)

    def _evaluation(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        snapshot = self._access.snapshot()
        request = wire.parse(body, app, snapshot, self._callers.resolver(app, snapshot))
        if self._access.touches_duty(request):
            [(decided, record)] = self._perform(call, [request])
        else:
            decided, record = self._plain(call, app, request)
        return HotResponse.json(200, wire.answer(decided, record, app))

    def _evaluations(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        if not isinstance(body, dict):
            raise Invalid("The request must be an object.", code="invalid_request")
        items = body.get("evaluations")
        if not items:
            return self._single(call, app, body, items)
        if not isinstance(items, list) or len(items) > wire.EVALUATIONS_MAX:
            raise Invalid(f"evaluations must be a list of at most {wire.EVALUATIONS_MAX}.", code="invalid_request")
        stop = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(wire.semantic(body))
        parsed = self._parse_items(body, items, app)
        requests = [one for one in parsed if isinstance(one, AccessRequest)]
        if any(self._access.touches_duty(one) for one in requests):
            answers = self._perform_batch(call, app, parsed, stop)
        else:
            decided: list[tuple[Decided, Record]] = []
            answers = _answers(parsed, lambda one: self._access.evaluate(one, call.now), decided, stop, app)
            call.records.append(_batch(app.code, decided))
            self._record(call, app)
        return HotResponse.json(200, {"evaluations": answers})

    def _parse_items(self, body: dict[str, Any], items: list[Any], app: App) -> list[AccessRequest | Invalid]:
        snapshot = self._access.snapshot()
        resolve = self._callers.resolver(app, snapshot)
        parsed: list[AccessRequest | Invalid] = []
        for item in items:
            try:
                parsed.append(wire.parse(wire.merge(body, item), app, snapshot, resolve))
            except Invalid as error:
                parsed.append(error)
        return parsed

    def _single(self, call: HotCall, app: App, body: dict[str, Any], items: Any) -> HotResponse:
        """Without items the request is one evaluation (§7.1)."""
        if items is not None and items != []:
            raise Invalid("evaluations must be a list.", code="invalid_request")
        snapshot = self._access.snapshot()
        request = wire.parse(body, app, snapshot, self._callers.resolver(app, snapshot))
        [(decided, record)] = (
            self._perform(call, [request]) if self._access.touches_duty(request) else [self._plain(call, app, request)]
        )
        return HotResponse.json(200, wire.answer(decided, record, app))

    def _plain(self, call: HotCall, app: App, request: AccessRequest) -> tuple[Decided, Record]:
        decided = self._access.decide(call, request)
        self._record(call, app)
        return decided, call.records[-1]

    def _record(self, call: HotCall, app: App) -> None:
        """Durable before the answer leaves, unless the application chose not to wait; acts never come here."""
        if app.recording == "buffered":
            self._recorder.submit_buffered(call, call.records, app.code)
        else:
            self._recorder.submit(call, call.records)

    def _perform(self, call: HotCall, requests: list[AccessRequest]) -> list[tuple[Decided, Record]]:
        """Acts, their decision and its record stand or fall in one transaction (foundations §4)."""
        with self._database.write() as connection:
            self._access.lock(connection, requests)
            decided = [self._access.perform(connection, call, one) for one in requests]
            call.records.extend(record for _, record in decided)
            self._recorder.write(connection, call, call.records, None)
        return decided

    def _perform_batch(
        self, call: HotCall, app: App, parsed: list[AccessRequest | Invalid], stop: bool | None
    ) -> list[dict[str, Any]]:
        """A batch with acts in it: its locks in sorted order, nothing decided behind the item that ends it."""
        decided: list[tuple[Decided, Record]] = []
        with self._database.write() as connection:
            self._access.lock(connection, [one for one in parsed if isinstance(one, AccessRequest)])
            answers = _answers(parsed, lambda one: self._access.perform(connection, call, one), decided, stop, app)
            call.records.append(_batch(app.code, decided))
            self._recorder.write(connection, call, call.records, None)
        return answers


def _batch(application: str, decided: list[tuple[Decided, Record]]) -> Record:
    """One record for a whole batch, with its items."""
    denied = sum(not one.permit for one, _ in decided)
    return Record(
        kind=Kind.DECISIONS_MADE,
        result="deny" if denied else "permit",
        application=application,
        policy_version=decided[0][0].policy_version if decided else None,
        facts_revision=decided[0][0].facts_revision if decided else None,
        data={
            "permitted": len(decided) - denied,
            "denied": denied,
            "items": [
                {
                    "user": str(record.user) if record.user else None,
                    "person": str(record.person) if record.person else None,
                    "resource_type": record.resource_type,
                    "resource_id": record.resource_id,
                    "action": record.action,
                    "intent": record.intent,
                    "result": record.result,
                    "reason": record.reason,
                    "rules": list(record.rules),
                    "input": record.input,
                }
                for _, record in decided
            ],
        },
    )


def _answers(
    parsed: list[AccessRequest | Invalid],
    decide: Callable[[AccessRequest], tuple[Decided, Record]],
    decided: list[tuple[Decided, Record]],
    stop: bool | None,
    app: App,
) -> list[dict[str, Any]]:
    """Decide the items in their order, up to the one that ends the semantic (§7.1.2.1)."""
    answers = []
    for one in parsed:
        if isinstance(one, Invalid):
            answers.append(wire.item_error(one))
        else:
            decided.append(decide(one))
            answers.append(wire.answer(*decided[-1], app))
        if stop is not None and answers[-1]["decision"] is stop:
            break
    return answers
