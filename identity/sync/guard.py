"""The guard: a mistake in or before the directory must not reach the company."""

from __future__ import annotations

from identity.sync.plan import KnownDirectory, SyncPlan

DISABLES_MIN = 5
DISABLES_SHARE = 0.10


def check(plan: SyncPlan, known: KnownDirectory) -> str | None:
    """Why this plan must wait for a person, or None when it may be applied.

    More than max(5, 10 % of the source's active accounts) disables hold the run.
    """
    disables = plan.counts.get("user_disable", 0)
    allowed = max(DISABLES_MIN, int(known.active_users * DISABLES_SHARE))
    if disables > allowed:
        return f"would disable {disables} of {known.active_users} active accounts; {allowed} are allowed at once"
    return None
