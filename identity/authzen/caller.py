"""Who asks the decision point, and how the asker names people."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import UUID

from sqlalchemy import select

from identity.access.ask import Resolve
from identity.access.snapshot import Snapshot
from identity.apps.authenticate import InvalidClient
from identity.apps.caller import CHALLENGE, known_caller
from identity.apps.models import AppAccount
from identity.apps.registry import App, Registry
from identity.audit.recorder import Recorder
from identity.core.bulk import one_of
from identity.core.db import Database
from identity.core.errors import Invalid, Refused
from identity.core.hot import HotCall, HotResponse


class Callers:
    """The applications that may ask, by their own credentials."""

    def __init__(self, registry: Registry, database: Database, recorder: Recorder) -> None:
        self._registry = registry
        self._database = database
        self._recorder = recorder

    def guarded(self, call: HotCall, handle: Callable[[HotCall, App], HotResponse]) -> HotResponse:
        """Answer for a caller that proved itself, in this API's words (§10.1: errors carry a message)."""
        try:
            app = known_caller(call, self._registry)
        except InvalidClient as error:
            return HotResponse.json(401, {"error": "invalid_client", "message": error.public}, CHALLENGE)
        if call.method == "POST" and call.media_type != "application/json":
            return HotResponse.json(400, {"error": "invalid_request", "message": "The body must be application/json."})
        try:
            return handle(call, app)
        except Invalid as error:
            status = 413 if error.code == "too_large" else 400
            return HotResponse.json(status, {"error": "invalid_request", "message": error.public})
        except Refused as error:
            return HotResponse.json(403, {"error": error.code, "message": error.public})

    def resolver(self, call: HotCall, app: App, snapshot: Snapshot) -> Resolve:
        """From the caller's subject id to a user, by the one field that this application names."""
        if app.subject_id_field == "sub":
            return snapshot.by_sub.get
        call.may_wait()
        known: dict[str, UUID | None] = {}

        def resolve(subject_id: str) -> UUID | None:
            if subject_id not in known:
                known[subject_id] = self.users(app, snapshot, (subject_id,)).get(subject_id)
            return known[subject_id]

        return resolve

    def users(self, app: App, snapshot: Snapshot, subject_ids: Collection[str]) -> dict[str, UUID]:
        """Who of these subject ids is known to us under the field that this application names."""
        if app.subject_id_field == "sub":
            return {one: user for one in subject_ids if (user := snapshot.by_sub.get(one)) is not None}
        column = getattr(AppAccount, app.subject_id_field)
        with self._database.read() as connection:
            query = select(column, AppAccount.user_id).where(
                AppAccount.application_id == app.id,
                one_of(connection, column, list(subject_ids)),
                AppAccount.status == "active",
            )
            return dict(connection.execute(query).all())
