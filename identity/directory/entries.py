"""From raw attributes to an entry: text is cleaned, binary and oversized values are left out and named."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from identity.core.errors import Invalid
from identity.directory.dn import normalise, normalise_or_empty
from identity.directory.reader import DirectoryEntry, EntryKind, ReadIncomplete
from identity.directory.settings import DirectorySettings

VALUE_MAX = 4_096
VALUES_MAX = 100
MEMBERS_MAX = 200_000
SHARED_MAX, SHARED_LENGTH = 500, 64
LOCKED_FOR_EVER = "000001010000Z"

_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_NEVER = frozenset({0, 0x7FFFFFFFFFFFFFFF})

# What an expression reads: entry.name or entry["name"].
_READ_BY = re.compile(r"""\bentry\s*(?:\.\s*([A-Za-z]\w*)|\[\s*["']([A-Za-z][\w;-]*)["']\s*\])""")

RawEntry = Mapping[str, Sequence[bytes]]


def wanted_attributes(settings: DirectorySettings, kind: EntryKind) -> list[str]:
    """The attributes to ask for, so that photos and certificates stay where they are."""
    names = settings.attributes
    by_kind: Mapping[EntryKind, tuple[str | None, ...]] = {
        "user": (
            *(names.login, names.name, "cn", names.family_name, names.given_name, names.mail, names.phone),
            *(names.employee_number, names.department, names.company, names.position, names.manager),
            *(names.valid_until, settings.disabled_when.attribute if settings.disabled_when else None),
        ),
        "group": (names.group_name, names.group_title, names.member),
        "department": (names.department_code, names.department_name, names.department_company),
    }
    more = (
        name
        for one in settings.transforms
        if one.kind == kind
        for parts in _READ_BY.findall(one.expression or "")
        for name in parts
    )
    return list(dict.fromkeys(name for name in (*by_kind[kind], *more, settings.key) if name))


class Names(dict[str, str]):
    """DNs in their one canonical form, each made once in one read; what is no DN names nobody (""). `last` are the
    cleaned values that each attribute had last: a department's people share its code."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, dict[bytes, tuple[str, ...]]] = {}

    def texts(self, name: str, value: bytes) -> tuple[str, ...]:
        """An attribute's only value, cleaned; () where it is left out."""
        last = self.last.get(name)
        if last is None:
            last = self.last[name] = {}
        found = last.get(value)
        if found is None:
            text = clean(value)
            if len(last) >= SHARED_MAX:
                last.clear()
            found = last[value] = () if text is None else (text,)
        return found

    def __missing__(self, dn: str) -> str:
        found = normalise_or_empty(dn)
        # The same text object where nothing had to be changed: a member's DN is its entry's.
        self[dn] = found = dn if found == dn else found
        return found


def make_entry(
    settings: DirectorySettings,
    kind: EntryKind,
    dn: str,
    raw: RawEntry,
    *,
    disabled: bool = False,
    members: Iterable[str] | None = None,
    key: Callable[[bytes], str] = bytes.decode,
    names: Names | None = None,
) -> DirectoryEntry:
    """An entry of these raw attributes, whose names are in small letters.

    Raises `ReadIncomplete` when its key is hidden from us or it cannot be read.
    """
    names = Names() if names is None else names
    key_name, member_name = settings.key.lower(), settings.attributes.member.lower()
    ids = raw.get(key_name) or ()
    if len(ids) != 1:
        raise ReadIncomplete(f"The directory hides {settings.key} from our account.", dn, code="no_key")
    own = {key_name, member_name}
    attributes: dict[str, tuple[str, ...]] = {}
    skipped = []
    for name, values in raw.items():
        if name in own:
            continue
        if len(values) == 1 and len(values[0]) <= SHARED_LENGTH:
            texts = names.texts(name, values[0])
        else:
            texts = tuple([text for one in values[:VALUES_MAX] if (text := clean(one)) is not None])
        if len(texts) != len(values):
            skipped.append(name)
        if texts:
            attributes[name] = texts
    if members is None:
        found = raw.get(member_name, ())
        if len(found) > MEMBERS_MAX:
            raise ReadIncomplete("A group has more members than we read.", dn, code="group_too_large")
        members = (text for one in found if (text := _text(one)) is not None)
    try:
        canonical = names[dn]
        if not canonical:
            normalise(dn)
        return DirectoryEntry(
            kind=kind,
            immutable_id=key(ids[0]),
            dn=canonical,
            attributes=attributes,
            disabled=disabled or _marked(settings, attributes),
            members=tuple([name for one in members if (name := names[one])]),
            valid_until=_valid_until(settings, attributes) if kind == "user" else None,
            skipped=tuple(skipped),
        )
    except (Invalid, UnicodeDecodeError, ValueError) as error:
        raise ReadIncomplete("An entry of the directory cannot be read.", f"{dn}: {error}", code="bad_entry") from None


def clean(value: bytes) -> str | None:
    """The value as one line of text without control or invisible characters; None for binary or oversized ones."""
    text = _text(value)
    if text is None:
        return None
    if text.isprintable() and text.isascii():
        return text.strip() or None
    kept = "".join(
        " " if char in "\r\n\t" else char for char in text if char in "\r\n\t" or unicodedata.category(char)[0] != "C"
    )
    return " ".join(kept.split()) or None


def _text(value: bytes) -> str | None:
    if len(value) > VALUE_MAX:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def guid(value: bytes) -> str:
    """An objectGUID (16 bytes, little endian; MS-DTYP §2.3.4.2) in its text form."""
    return str(UUID(bytes_le=value))


def _marked(settings: DirectorySettings, attributes: Mapping[str, tuple[str, ...]]) -> bool:
    marker = settings.disabled_when
    if LOCKED_FOR_EVER in attributes.get("pwdaccountlockedtime", ()):
        return True
    return marker is not None and marker.value in attributes.get(marker.attribute.lower(), ())


def _valid_until(settings: DirectorySettings, attributes: Mapping[str, tuple[str, ...]]) -> datetime | None:
    name = settings.attributes.valid_until
    value = next(iter(attributes.get(name.lower(), ())), None) if name else None
    if value is None:
        return None
    return parse_end(value, settings.time_zone)


def parse_end(value: str, zone: str) -> datetime | None:
    """An end as an aware time: generalized time (RFC 4517 §3.3.13), file time (100 ns since 1601), or a date, which
    is the end of that day in `zone`. Raises `ValueError` for anything else: an end that we cannot read is no
    "for ever"."""
    if value.isdigit() and len(value) not in {8, 14}:
        ticks = int(value)
        if ticks in _NEVER:
            return None
        try:
            return _FILETIME_EPOCH + timedelta(microseconds=ticks // 10)
        except OverflowError:
            return None
    if value.endswith("Z") and value[:-1].replace(".", "").isdigit():
        return datetime.strptime(value.partition(".")[0].rstrip("Z")[:14].ljust(14, "0"), "%Y%m%d%H%M%S").replace(
            tzinfo=UTC
        )
    day = datetime.strptime(value, "%Y%m%d" if value.isdigit() else "%Y-%m-%d").date()  # noqa: DTZ007
    return datetime.combine(day + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(UTC)
