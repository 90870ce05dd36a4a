"""What a page's form or address may say."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from identity.core.errors import Invalid
from identity.core.hot import parse_uuid

# Years outside are nobody's wish, and near the calendar's ends arithmetic overflows.
_YEARS = range(1970, 9000)


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
