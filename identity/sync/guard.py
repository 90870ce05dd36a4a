"""The guard: a mistake in or before the directory must not reach the company."""

from __future__ import annotations

from collections.abc import Mapping

from identity.directory.reader import ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings, Limit
from identity.sync.plan import KnownDirectory, SyncPlan

_WORDS: Mapping[str, str] = {
    "user_disable": "disable {n} of {of} active accounts",
    "user_delete": "delete {n} of {of} accounts",
    "cleared": "clear a field of {n} of {of} accounts",
    "left": "take {n} of {of} accounts out of groups",
    "group_remove": "remove {n} of {of} groups",
    "department_remove": "abolish {n} of {of} departments",
}


def check_reading(reading: Reading, known: KnownDirectory) -> None:
    """Raise `ReadIncomplete` when a whole kind of entry that we know is gone: that is no answer but a mistake."""
    if not reading.complete:
        return
    for kind, held in (("user", known.users), ("group", known.groups), ("department", known.departments)):
        if held and not any(entry.kind == kind for entry in reading.entries):
            raise ReadIncomplete(f"The directory holds no {kind}s any more.", code="read_empty")


def check(plan: SyncPlan, known: KnownDirectory, settings: DirectorySettings) -> list[str]:
    """Why this plan must wait for a person; empty when it may be applied. Always the whole plan is judged."""
    totals = {
        **dict.fromkeys(("user_delete", "cleared", "left"), known.all_users),
        "user_disable": known.active_users,
        "group_remove": len(known.groups),
        "department_remove": len(known.departments),
    }
    limits = _limits(settings)
    reasons = []
    for name, n in _numbers(plan).items():
        of = totals[name]
        allowed = limits[name].of(of)
        if n > allowed:
            reasons.append(f"would {_WORDS[name].format(n=n, of=of)}; {allowed} are allowed at once")
    return reasons


def asks_for_totals(plan: SyncPlan, settings: DirectorySettings) -> bool:
    """Whether `check` must know how many accounts there are: no limit is ever lower than its count."""
    limits = _limits(settings)
    return any(n > limits[name].count for name, n in _numbers(plan).items())


def _numbers(plan: SyncPlan) -> dict[str, int]:
    found = {**plan.counts, "cleared": _cleared(plan), "left": _left(plan)}
    return {name: found.get(name, 0) for name in _WORDS}


def _limits(settings: DirectorySettings) -> Mapping[str, Limit]:
    return {name: Limit(count=5, percent=10) for name in _WORDS} | dict(settings.limits)


def _cleared(plan: SyncPlan) -> int:
    kinds = {"user_update", "user_move"}
    return len({one.immutable_id for one in plan.changes if one.kind in kinds and None in one.after.values()})


def _left(plan: SyncPlan) -> int:
    return sum(one.kind == "user_groups" and bool(one.after["remove"]) for one in plan.changes)
