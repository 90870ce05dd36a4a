"""Accepted shapes of alarm settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from identity.alarms.rules import RULES
from identity.core.addresses import check_web_address


def _rule(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"must be one of {', '.join(RULES)}")
    return name


def _channel(text: str) -> str:
    kind, _, address = text.partition(":")
    if kind == "mailto" and address.count("@") == 1 and not any(c.isspace() or c in ",;<>?" for c in address):
        return text
    return check_web_address(text)


class AlarmInput(BaseModel):
    """One rule's setting; None = the rule's default. A channel is `mailto:somebody@example.com` or a webhook's address;
    `hours` (`08:00-20:00`, Monday to Friday) is the working time of `odd-hours`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Annotated[str, AfterValidator(_rule)]
    threshold: int | None = Field(default=None, ge=1)
    window_s: int | None = Field(default=None, ge=30, le=31_536_000)
    hours: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] | None = None
    channels: tuple[Annotated[str, StringConstraints(max_length=2_048), AfterValidator(_channel)], ...] = ()
    enabled: bool = True
