"""The decision endpoints, in front of Flask: authenticate, decide, record durably, answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.access.decide import Access, AccessRequest, Decided
from identity.access.snapshot import Snapshot
from identity.apps import authenticate
from identity.apps.models import AppAccount
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.authzen import wire
from identity.core.db import Database
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.record import Record

GUARD = "application credentials (HTTP Basic)"


def routes(
    public_url: str, registry: Registry, access: Access, database: Database, recorder: Recorder
) -> list[HotRoute]:
    """The AuthZEN endpoints."""
    door = _Door(registry, access, database, recorder)
    metadata = {
        "policy_decision_point": public_url,
        "access_evaluation_endpoint": f"{public_url}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{public_url}/access/v1/evaluations",
    }
    return [
        HotRoute("/access/v1/evaluation", ("POST",), door.evaluation, GUARD),
        HotRoute("/access/v1/evaluations", ("POST",), door.evaluations, GUARD),
        HotRoute(
            "/.well-known/authzen-configuration",
            ("GET",),
            lambda _: HotResponse.json(200, metadata),
            "public: metadata",
        ),
    ]


class _Door:
    def __init__(self, registry: Registry, access: Access, database: Database, recorder: Recorder) -> None:
        self._registry = registry
        self._access = access
        self._database = database
        self._recorder = recorder

    def evaluation(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluation (§6)."""
        return self._guarded(call, self._evaluation)

    def evaluations(self, call: HotCall) -> HotResponse:
        """POST /access/v1/evaluations (§7)."""
        return self._guarded(call, self._evaluations)

    def _guarded(self, call: HotCall, handle: Callable[[HotCall, App], HotResponse]) -> HotResponse:
        try:
            app = authenticate.application(self._registry.current(), call.header("Authorization"))
        except authenticate.InvalidClient as error:
            call.records.append(Record(kind=Kind.CALLER_REFUSED, result="refused", reason="invalid_client"))
            self._recorder.submit(call, call.records)
            return HotResponse.json(
                401,
                {"error": "invalid_client", "message": error.public},
                ("WWW-Authenticate", 'Basic realm="tessera"'),
            )
        call.actor = authenticate.as_actor(app)
        if call.media_type != "application/json":
            return HotResponse.json(415, {"error": "invalid_request", "message": "The body must be application/json."})
        try:
            return handle(call, app)
        except Invalid as error:
            status = 413 if error.code == "too_large" else 400
            return HotResponse.json(status, {"error": "invalid_request", "message": error.public})

    def _evaluation(self, call: HotCall, app: App) -> HotResponse:
        body = call.json()
        snapshot = self._access.snapshot()
        request = wire.parse(body, app, snapshot, self._resolver(app, snapshot))
        if self._access.touches_duty(request):
            [(decided, record)] = self._perform(call, [request])
        else:
            decided = self._access.decide(call, request)
            record = call.records[-1]
            self._recorder.submit(call, call.records)
        return HotResponse.json(200, wire.answer(decided, record))

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
            answers = _answers(parsed, lambda one: self._access.evaluate(one, call.now), decided, stop)
            call.records.append(_batch(app.code, decided))
            self._recorder.submit(call, call.records)
        return HotResponse.json(200, {"evaluations": answers})

    def _parse_items(self, body: dict[str, Any], items: list[Any], app: App) -> list[AccessRequest | Invalid]:
        snapshot = self._access.snapshot()
        resolve = self._resolver(app, snapshot)
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
        request = wire.parse(body, app, snapshot, self._resolver(app, snapshot))
        [(decided, record)] = (
            self._perform(call, [request]) if self._access.touches_duty(request) else [self._plain(call, request)]
        )
        return HotResponse.json(200, wire.answer(decided, record))

    def _plain(self, call: HotCall, request: AccessRequest) -> tuple[Decided, Record]:
        decided = self._access.decide(call, request)
        self._recorder.submit(call, call.records)
        return decided, call.records[-1]

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
            answers = _answers(parsed, lambda one: self._access.perform(connection, call, one), decided, stop)
            call.records.append(_batch(app.code, decided))
            self._recorder.write(connection, call, call.records, None)
        return answers

    def _resolver(self, app: App, snapshot: Snapshot) -> wire.Resolve:
        """From the caller's subject id to a user, by the one field that this application names."""
        if app.subject_id_field == "sub":
            return snapshot.by_sub.get
        column = getattr(AppAccount, app.subject_id_field)
        known: dict[str, UUID | None] = {}

        def resolve(subject_id: str) -> UUID | None:
            if subject_id not in known:
                with self._database.read() as connection:
                    known[subject_id] = connection.execute(
                        select(AppAccount.user_id).where(
                            AppAccount.application_id == app.id,
                            column == subject_id,
                            AppAccount.status == "active",
                        )
                    ).scalar_one_or_none()
            return known[subject_id]

        return resolve


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
) -> list[dict[str, Any]]:
    """Decide the items in their order, up to the one that ends the semantic (§7.1.2.1)."""
    answers = []
    for one in parsed:
        if isinstance(one, Invalid):
            answers.append(wire.item_error(one))
        else:
            decided.append(decide(one))
            answers.append(wire.answer(*decided[-1]))
        if stop is not None and answers[-1]["decision"] is stop:
            break
    return answers
