"""The standard reports: what each asks, its columns, and how its rows are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from identity.access.snapshot import Snapshot
from identity.core.i18n import gettext_noop as _
from identity.reports import activity, holdings


@dataclass(frozen=True, slots=True)
class Source:
    """What a report reads. The period is [since, until); of an earlier day, `until` is its end."""

    connection: Connection
    snapshot: Snapshot
    since: datetime
    until: datetime


Rows = Iterable[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `title`, `question` and `columns` are English message ids."""

    code: str
    title: str
    question: str
    columns: tuple[str, ...]
    rows: Callable[[Source], Rows]
    period: bool = True
    """Whether it looks at a period; else it speaks of the moment at which it is made."""
    dated: bool = False
    """Whether it can speak of the end of an earlier day instead."""


_ALL = (
    Report(
        "people-roles",
        _("People and their roles"),
        _("Every role that an active user holds, with its scope, limit, validity and origin."),
        (
            *(_("Person"), _("Login"), _("Application"), _("Role"), _("Company"), _("Unit"), _("Business type")),
            *(_("Limit"), _("Valid from"), _("Valid until"), _("Origin")),
        ),
        holdings.people_roles,
        period=False,
        dated=True,
    ),
    Report(
        "leavers",
        _("Leavers"),
        _("Users disabled in the period, with the minutes until their last access ended."),
        (
            *(
                _("Person"),
                _("Login"),
                _("Disabled at"),
                _("Cause"),
                _("Sessions ended"),
                _("Last session ended at"),
            ),
            *(_("Minutes"), _("Sessions still open")),
        ),
        activity.leavers,
    ),
    Report(
        "dormant",
        _("Dormant accounts"),
        _("Active users who have not signed in during the period, and were there before it."),
        (_("Person"), _("Login"), _("Created at"), _("Last sign-in")),
        activity.dormant,
    ),
    Report(
        "privileged",
        _("Privileged acts"),
        _("What administrators changed in the period, with reason and reference."),
        (_("Time"), _("Administrator"), _("Act"), _("Object"), _("Result"), _("Reason given"), _("Reference")),
        activity.privileged,
    ),
    Report(
        "direct-grants",
        _("Direct grants"),
        _("Assignments in force that no mapping derives."),
        (
            *(_("Holder kind"), _("Holder"), _("Role"), _("Company"), _("Unit"), _("Business type"), _("Limit")),
            *(_("Valid from"), _("Valid until"), _("Granted by"), _("Reason given")),
        ),
        holdings.direct_grants,
        period=False,
    ),
    Report(
        "duties",
        _("Separation of duty"),
        _("Memberships held back because they would break a duty rule, and mitigations in force."),
        (_("Kind"), _("Rule"), _("Person"), _("Role"), _("Origin"), _("Owner"), _("Control"), _("Valid until")),
        holdings.duties,
        period=False,
    ),
)

REPORTS: Mapping[str, Report] = {report.code: report for report in _ALL}
