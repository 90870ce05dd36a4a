"""LDIF (RFC 2849) as a directory: read whole and strictly; a bad line is named and nothing is taken."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from identity.core.errors import Invalid
from identity.directory.dn import is_below, normalise, parse
from identity.directory.entries import make_entry
from identity.directory.reader import (
    BindResult,
    ChangeResult,
    Cursor,
    DirectoryEntry,
    Edit,
    EntryKind,
    ReadIncomplete,
    Reading,
    Written,
    only_login,
)
from identity.directory.settings import DirectorySettings
from identity.directory.tables import read_file

ARGON2 = b"{ARGON2}"
_KINDS: dict[str, EntryKind] = {"inetorgperson": "user", "groupofnames": "group", "organizationalunit": "department"}
_ATTRIBUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?:;[A-Za-z0-9-]+)*")
_hasher = PasswordHasher()


@dataclass(slots=True)
class _Record:
    line: int
    dn: str = ""
    values: dict[str, list[bytes]] = field(default_factory=dict)


class LdifDirectory:
    """A directory kept in one file."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self._path = Path(settings.path)

    def read(self, cursor: Cursor | None = None) -> Reading:
        """Every user, group and department of the file; the cursor of an unchanged file gives no change.

        Raises `Invalid` with file and line, `ReadIncomplete` when the file is not there or holds no user.
        """
        content = self._content()
        mark = hashlib.sha256(content).hexdigest()
        if cursor and cursor.get("sha256") == mark and self._settings.incremental:
            return Reading((), complete=False, cursor={"sha256": mark}, server=str(self._path))
        entries: list[DirectoryEntry] = []
        ids: dict[str, int] = {}
        for record in self._records(content):
            entry = self._entry(record)
            if entry is None:
                continue
            first = ids.setdefault(entry.immutable_id, record.line)
            if first != record.line:
                raise self._bad(record.line, f"the same {self._settings.key} stands at line {first}")
            entries.append(entry)
        if not any(entry.kind == "user" for entry in entries):
            raise ReadIncomplete("The directory holds no users.", str(self._path), code="read_empty")
        return Reading(tuple(entries), cursor={"sha256": mark}, server=str(self._path))

    def pick(self, login: str | None, ids: Collection[str]) -> Reading:  # noqa: ARG002
        """A file is read whole."""
        return self.read()

    def sample(self, login: str) -> DirectoryEntry | None:
        """The entry of this login; None unless there is exactly one."""
        return only_login(self.read(), self._settings.attributes.login, login)

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:  # noqa: ARG002
        """Check the entry's `userPassword: {ARGON2}…`."""
        if not password:
            return "wrong_password"
        try:
            records = [one for one in self._records(self._content()) if self._id(one) == immutable_id]
        except (Invalid, ReadIncomplete):
            return "unavailable"
        entry = self._entry(records[0]) if len(records) == 1 else None
        if entry is None or entry.kind != "user":
            return "wrong_password"
        if entry.disabled:
            return "disabled"
        stored = records[0].values.get("userpassword", [])
        return "ok" if any(password_matches(one, password) for one in stored) else "wrong_password"

    def change_password(self, immutable_id: str, old: str, new: str) -> ChangeResult:  # noqa: ARG002
        """Nothing is written into a file."""
        return "off"

    def write(self, immutable_id: str, edit: Edit) -> Written:  # noqa: ARG002
        """A file is not written to."""
        return Written("off")

    def lockout(self) -> tuple[int, int]:
        """A file locks nobody."""
        return 0, 0

    def close(self) -> None:
        """Nothing is kept open."""

    def _id(self, record: _Record) -> str:
        values = record.values.get(self._settings.key.lower())
        return values[0].decode() if values else normalise(record.dn)

    def _entry(self, record: _Record) -> DirectoryEntry | None:
        s = self._settings
        classes = {one.decode().lower() for one in record.values.get("objectclass", [])}
        kind = next((kind for name, kind in _KINDS.items() if name in classes), None)
        if kind is None:
            return None
        try:
            place = parse(record.dn)
            base = {"user": s.users_base, "group": s.groups_base, "department": s.departments_base}[kind]
            if base and (place == parse(base) or not is_below(place, parse(base))):
                return None
            raw = {name: values for name, values in record.values.items() if name != "userpassword"}
            # A file without the key names its entries by their DN.
            raw.setdefault(s.key.lower(), [normalise(record.dn).encode()])
            return make_entry(s, kind, record.dn, raw)
        except Invalid as error:
            raise self._bad(record.line, error.public) from None
        except ReadIncomplete as error:
            raise self._bad(record.line, error.detail or error.public) from None

    def _content(self) -> bytes:
        return read_file(self._path)

    def _records(self, content: bytes) -> Iterator[_Record]:
        record: _Record | None = None
        seen: set[str] = set()
        for number, line in self._unfolded(content):
            if not line:
                if record is not None:
                    yield record
                record = None
                continue
            name, value = self._line(number, line)
            if name == "version" and record is None and not seen:
                continue
            if record is None:
                if name != "dn" or not value:
                    raise self._bad(number, "an entry must begin with dn:")
                record = _Record(number, value.decode())
                if record.dn in seen:
                    raise self._bad(number, "this entry stands twice")
                seen.add(record.dn)
            elif name in {"dn", "changetype"}:
                raise self._bad(number, f"{name} stands in the wrong place; a directory is entries, not changes")
            else:
                record.values.setdefault(name, []).append(value)
        if record is not None:
            yield record

    def _unfolded(self, content: bytes) -> Iterator[tuple[int, str]]:
        """Logical lines with the number of their first line; comments are dropped."""
        current: list[str] = []
        start = 0
        for number, raw in enumerate(content.split(b"\n"), 1):
            try:
                line = raw.removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError:
                raise self._bad(number, "not UTF-8") from None
            if line.startswith(" ") and current:
                current.append(line[1:])
                continue
            if current and not current[0].startswith("#"):
                yield start, "".join(current)
            current, start = [line], number
        if current and not current[0].startswith("#"):
            yield start, "".join(current)

    def _line(self, number: int, line: str) -> tuple[str, bytes]:
        name, colon, rest = line.partition(":")
        if not colon or not _ATTRIBUTE.fullmatch(name):
            raise self._bad(number, "no attribute name")
        if rest.startswith("<"):
            raise self._bad(number, "values by URL are not read")
        if not rest.startswith(":"):
            return name.lower(), rest.strip(" ").encode()
        try:
            value = base64.b64decode(rest[1:].strip(" "), validate=True)
        except binascii.Error:
            raise self._bad(number, "not valid base64") from None
        if name.lower() in {"dn", "objectclass", "member", self._settings.key.lower()}:
            try:
                value.decode()
            except UnicodeDecodeError:
                raise self._bad(number, f"{name} is not UTF-8") from None
        return name.lower(), value

    def _bad(self, number: int, what: str) -> Invalid:
        return Invalid(f"{self._path.name}, line {number}: {what}", code="ldif_line")


def password_matches(stored: bytes, password: str) -> bool:
    """Whether this is the password of an `{ARGON2}` hash; of any other form it is none."""
    if not stored.startswith(ARGON2):
        return False
    try:
        return _hasher.verify(stored.removeprefix(ARGON2), password)
    except (VerificationError, InvalidHashError):
        return False
