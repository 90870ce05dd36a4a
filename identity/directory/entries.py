"""From raw attributes to entries, the same for every kind of source."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from uuid import UUID
from zoneinfo import ZoneInfo

from identity.core.errors import Invalid
from identity.directory.dn import fold, normalise
from identity.directory.reader import DirectoryEntry, EntryKind, ReadIncomplete
from identity.directory.settings import DirectorySettings, Search

LOCKED = "pwdaccountlockedtime"
LOCKED_FOR_EVER = b"000001010000Z"
VALUE_MAX_BYTES = 4_096
VALUES_MAX = 100

_GENERALIZED = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(\d\d)?)?(?:[.,]\d+)?(Z|[+-]\d\d(?:\d\d)?)", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Raw = Mapping[str, Sequence[bytes]]


def searches(settings: DirectorySettings) -> list[tuple[EntryKind, Search]]:
    """The configured kinds and where they are found."""
    found: list[tuple[EntryKind, Search]] = [("user", settings.users)]
    if settings.groups is not None:
        found.append(("group", settings.groups))
    if settings.departments is not None:
        found.append(("department", settings.departments))
    return found


def wanted(kind: EntryKind, search: Search, settings: DirectorySettings) -> tuple[str, ...]:
    """The attributes to ask for: mapped ones, the key, and what says whether an account is alive."""
    names: set[str] = {search.key}
    if kind == "user":
        mapped = settings.user.model_dump(exclude={"facts"})
        names.update(settings.user.facts.values(), (LOCKED,))
        if settings.disabled_when is not None:
            names.add(settings.disabled_when.attribute)
        if settings.valid_until is not None:
            names.add(settings.valid_until)
    elif kind == "group":
        mapped = settings.group.model_dump()
    else:
        mapped = settings.department.model_dump()
    names.update(name for name in mapped.values() if name)
    return tuple(sorted({name.lower() for name in names}))


class EntryBuilder:
    """Makes the entries of one kind."""

    def __init__(self, kind: EntryKind, search: Search, settings: DirectorySettings) -> None:
        self.kind = kind
        self.attributes = wanted(kind, search, settings)
        self._key = search.key.lower()
        self._settings = settings
        self._zone = ZoneInfo(settings.time_zone)
        self._member = settings.group.member.lower() if kind == "group" else None
        self._mapped = frozenset(self.attributes) - {LOCKED, self._member or ""}

    def build(self, dn: str, raw: Raw) -> DirectoryEntry:
        """The entry; raises `ReadIncomplete` when its name or its key cannot be read."""
        values = {name.lower(): found for name, found in raw.items()}
        faults: dict[str, str] = {}
        attributes: dict[str, tuple[str, ...]] = {}
        for name in self._mapped:
            if name in values:
                clean = _clean(name, values[name], faults)
                if clean:
                    attributes[name] = clean
        return DirectoryEntry(
            kind=self.kind,
            immutable_id=self.key_of(dn, values),
            dn=_name(dn),
            attributes=attributes,
            disabled=self.kind == "user" and self.is_disabled(values),
            valid_until=self._end(attributes, faults),
            members=self._members(values, faults),
            faults=faults,
        )

    def key_of(self, dn: str, values: Raw) -> str:
        """The immutable id; raises `ReadIncomplete` when there is not exactly one readable value."""
        found = values.get(self._key, ())
        try:
            (value,) = found
            text = value.decode()
            key = str(UUID(text)) if self._key == "entryuuid" else fold(text)
        except (ValueError, UnicodeError) as error:
            raise ReadIncomplete(
                f"An entry has no readable {self._key}; the account that reads may lack the right to see it.",
                f"{dn}: {len(found)} values",
                code="no_key",
            ) from error
        if not key:
            raise ReadIncomplete(f"An entry has an empty {self._key}.", dn, code="no_key")
        return key

    def is_disabled(self, values: Raw) -> bool:
        """Whether the source itself says that the account is switched off (a passing lockout does not)."""
        if LOCKED_FOR_EVER in values.get(LOCKED, ()):
            return True
        marker = self._settings.disabled_when
        if marker is None:
            return False
        sought = fold(marker.value)
        return any(
            fold(value.decode(errors="replace")) == sought
            for value in values.get(marker.attribute.lower(), ())
        )

    def _end(self, attributes: Mapping[str, tuple[str, ...]], faults: dict[str, str]) -> datetime | None:
        name = self._settings.valid_until
        if self.kind != "user" or name is None or name.lower() not in attributes:
            return None
        try:
            return parse_end(attributes[name.lower()][0], self._zone)
        except Invalid as error:
            faults[name.lower()] = error.public
            return None

    def _members(self, values: Raw, faults: dict[str, str]) -> tuple[str, ...]:
        if self._member is None:
            return ()
        found: dict[str, None] = {}
        for value in values.get(self._member, ()):
            try:
                if value:
                    found[normalise(value.decode())] = None
            except (Invalid, UnicodeError):
                faults[self._member] = "a member is not a distinguished name"
        return tuple(found)


def complete(kind: EntryKind, entries: Iterable[DirectoryEntry]) -> tuple[DirectoryEntry, ...]:
    """All entries of one kind; raises `ReadIncomplete` when there are none, or a key or name comes twice."""
    found = tuple(entries)
    if not found:
        raise ReadIncomplete(f"The directory answered without a single {kind}.", code="read_empty")
    for what, counts in (
        ("key", Counter(entry.immutable_id for entry in found)),
        ("name", Counter(entry.dn for entry in found)),
    ):
        value, count = counts.most_common(1)[0]
        if count > 1:
            raise ReadIncomplete(f"Two {kind} entries share one {what}.", f"{what} {value}", code="key_twice")
    return found


def parse_end(text: str, zone: ZoneInfo) -> datetime:
    """An end in UTC, exclusive: generalized time (RFC 4517 §3.3.13), or a date whose local day still counts.

    Raises `Invalid`.
    """
    try:
        if _DATE.fullmatch(text):
            following = date.fromisoformat(text) + timedelta(days=1)
            return datetime.combine(following, time(), zone).astimezone(UTC)
        match = _GENERALIZED.fullmatch(text)
        if match is None:
            raise ValueError(text)
        year, month, day, hour, minute, second, offset = match.groups()
        when = datetime(
            int(year), int(month), int(day), int(hour), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        return when - _offset(offset)
    except (ValueError, OverflowError) as error:
        raise Invalid("is neither a generalized time nor a date", text[:64], code="end") from error


def _offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta()
    delta = timedelta(hours=int(text[1:3]), minutes=int(text[3:5] or 0))
    return timezone(delta if text[0] == "+" else -delta).utcoffset(None)


def _clean(name: str, found: Sequence[bytes], faults: dict[str, str]) -> tuple[str, ...]:
    """The readable values, control characters turned into spaces; what had to be left out stands in `faults`."""
    if len(found) > VALUES_MAX:
        faults[name] = f"has more than {VALUES_MAX} values"
        return ()
    kept: list[str] = []
    for value in found:
        if len(value) > VALUE_MAX_BYTES:
            faults[name] = f"is longer than {VALUE_MAX_BYTES} bytes"
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            faults[name] = "is not UTF-8 text"
            continue
        if not text.isprintable():
            text = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)
        text = text.strip()
        if text:
            kept.append(text)
    return tuple(kept)


def _name(dn: str) -> str:
    try:
        return normalise(dn)
    except Invalid as error:
        raise ReadIncomplete("An entry's name is not a distinguished name.", dn[:200], code="dn") from error
