"""A decision that is durable before its answer leaves, for hot doors."""

from __future__ import annotations

from identity.access.decide import Access, AccessRequest, Decided, touches_duty
from identity.access.recorded import record_of
from identity.access.snapshot import Snapshot
from identity.apps.registry import App
from identity.audit.recorder import Recorder
from identity.core.db import Database
from identity.core.hot import HotCall


class DurableAccess:
    """Decides, and records or leaves it to the edge to record first (`call.pending`); `call.records` has it."""

    def __init__(self, access: Access, database: Database, recorder: Recorder) -> None:
        self._access = access
        self._database = database
        self._recorder = recorder

    def decide(self, call: HotCall, app: App, request: AccessRequest, snapshot: Snapshot) -> Decided:
        """One decision of this snapshot; raises `Unavailable`.

        Where a duty rule names the action of a `perform`, the decision, its act and its record stand or fall in one
        transaction, by what is known then (foundations §4).
        """
        if not touches_duty(snapshot, (request,)):
            decided = self._access.decide(call, request, snapshot)
            self.record(call, app)
            return decided
        call.may_wait()
        if request.intent == "perform":
            with self._database.write() as connection:
                self._access.lock(connection, [request])
                decided = self._access.perform(connection, self._access.snapshot(), request, call.now)
                call.records.append(record_of(request, decided))
                self._recorder.write(connection, call, call.records, None)
        else:
            with self._database.read() as connection:
                decided = self._access.perform(connection, snapshot, request, call.now)
            call.records.append(record_of(request, decided))
            call.pending += call.records
        return decided

    def record(self, call: HotCall, app: App) -> None:
        """Have the call's records durable before the answer leaves, unless the application chose not to wait; acts
        never come here."""
        if app.recording == "buffered":
            self._recorder.submit_buffered(call, call.records, app.code)
        else:
            call.pending += call.records
