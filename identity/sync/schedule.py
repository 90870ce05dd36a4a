"""Which source is due, and what the worker does with it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from identity.core.errors import Conflict
from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.directory.models import DirectorySource
from identity.sync.models import SyncState
from identity.sync.run import run_source

PATIENCE_MAX = timedelta(minutes=5)


def run_due(units: Units, now: datetime) -> None:
    """Run every enabled source whose interval has passed; the worker calls this."""
    with units.open(Actor.system("worker:sync"), write=False, now=now) as unit:
        due = [source.code for source in unit.db.execute(select(DirectorySource)).scalars() if _is_due(unit, source)]
    for code in due:
        try:
            run_source(units, code, Actor.system(f"sync:{code}"))
        except Conflict:
            continue


def _is_due(unit: Unit, source: DirectorySource) -> bool:
    """Whether the interval has passed. A source that fails is tried again after twice the time each, at most five
    minutes; one that was paused waits for a person."""
    if not source.enabled or source.interval_s is None:
        return False
    state = unit.db.get(SyncState, source.id)
    if state is None or state.checked_at is None:
        return True
    if state.paused is not None:
        return False
    interval = timedelta(seconds=source.interval_s)
    patience = min(interval * 2 ** min(state.failures, 10), max(interval, PATIENCE_MAX))
    return bool(unit.now - state.checked_at >= patience)
