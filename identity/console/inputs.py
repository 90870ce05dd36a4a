"""What a page's form or address may say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from identity.core.errors import Invalid
from identity.core.hot import parse_uuid
from identity.core.i18n import gettext as _

T = TypeVar("T")

# Years outside are nobody's wish, and near the calendar's ends arithmetic overflows.
_YEARS = range(1970, 9000)


def valid(make: Callable[[], T]) -> T:
    """What `make` makes of a form's values; the first of its faults is an `Invalid` that names the field."""
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or _("the form")
        raise Invalid(_("%(field)s is not valid: %(fault)s") % {"field": field, "fault": first["msg"]}) from None


def whole_number(text: str) -> int | None:
    """The number of a page's key or a form; None for an empty text. Raises `Invalid`."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Invalid("The form is not complete.", code="form")
    return int(text)


def parse_day(text: str, zone: ZoneInfo, *, end: bool = False) -> datetime | None:
    """A date in this zone, None for an empty text; as an end it is the end of that day. Raises `Invalid`."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        day = None
    if day is None or day.year not in _YEARS:
        raise Invalid("A date is written as 2026-12-31.", code="date")
    return day + timedelta(days=1) if end else day


def parse_moment(text: str) -> datetime | None:
    """The key of a page that is a time, None for an empty text. Raises `Invalid`."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year not in _YEARS:
        raise Invalid("This page does not exist.", code="page_key")
    return moment


def parse_record_key(text: str) -> tuple[datetime, UUID, int] | None:
    """The key of a page of audit records, None for an empty text. Raises `Invalid`."""
    if not text:
        return None
    at, _, rest = text.partition("~")
    record, _, item = rest.partition("~")
    record_id, moment = parse_uuid(record), parse_moment(at)
    if record_id is None or moment is None or not item.isascii() or not item.isdigit() or len(item) > 6:
        raise Invalid("This page does not exist.", code="page_key")
    return moment, record_id, int(item)
