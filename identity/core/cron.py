"""Cron expressions, read in the organisation's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, StringConstraints


def _cron(text: str) -> str:
    try:
        CronSim(text, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"is not a cron expression: {error}") from None
    return text


Cron = Annotated[str, StringConstraints(max_length=100), AfterValidator(_cron)]


def has_passed(cron: str, since: datetime, now: datetime, zone: tzinfo) -> bool:
    """Whether a time of the expression lies behind `since` and not behind `now`."""
    return next(CronSim(cron, since.astimezone(zone))) <= now
