"""Accepted shapes of report schedules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from identity.core.cron import Cron
from identity.reports.catalogue import REPORTS


def _report(code: str) -> str:
    if code not in REPORTS:
        raise ValueError(f"must be one of {', '.join(REPORTS)}")
    return code


Address = Annotated[str, StringConstraints(pattern=r"^[^@\s,;<>]{1,64}@[^@\s,;<>]{1,190}$")]


class ScheduleInput(BaseModel):
    """A schedule; `days` is the period that the report looks back, `cron` reads the organisation's time zone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
    report: Annotated[str, AfterValidator(_report)]
    days: int = Field(default=31, ge=1, le=3_660)
    cron: Cron
    recipients: Annotated[tuple[Address, ...], Field(min_length=1, max_length=50)]
    language: Literal["en", "zh_Hans"] = "zh_Hans"
    enabled: bool = True
