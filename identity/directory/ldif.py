"""LDIF (RFC 2849) as a directory: read whole and strictly; a bad line is named and nothing is taken."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from identity.core.errors import Invalid
from identity.directory.dn import is_below, normalise, parse
from identity.directory.reader import BindResult, DirectoryEntry, DirectorySettings, ReadIncomplete

FILE_MAX = 256 * 1024 * 1024
ARGON2 = "{ARGON2}"
_hasher = PasswordHasher()
_KINDS = {"inetorgperson": "user", "groupofnames": "group", "organizationalunit": "department"}

Attributes = dict[str, list[str]]


class LdifDirectory:
    """A directory kept in one file."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self._path = Path(settings.path)

    def read(self) -> tuple[DirectoryEntry, ...]:
        """Every user, group and department of the file; raises `Invalid` with file and line, `ReadIncomplete` when
        the file is not there or holds no user."""
        entries = tuple(entry for dn, attributes in self._records() if (entry := self._entry(dn, attributes)))
        if not any(entry.kind == "user" for entry in entries):
            raise ReadIncomplete("The directory holds no users.", str(self._path), code="read_empty")
        return entries

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:
        """Check the entry's `userPassword: {ARGON2}…`."""
        for found, attributes in self._records():
            if attributes.get("entryuuid", [""])[0] != immutable_id and normalise(found) != normalise(dn):
                continue
            if _disabled(attributes):
                return "disabled"
            return (
                "ok" if any(_matches(one, password) for one in attributes.get("userpassword", [])) else "wrong_password"
            )
        return "wrong_password"

    def _entry(self, dn: str, attributes: Attributes) -> DirectoryEntry | None:
        classes = {one.lower() for one in attributes.get("objectclass", [])}
        kind = next((kind for name, kind in _KINDS.items() if name in classes), None)
        base = {"user": self._settings.users_base, "group": self._settings.groups_base}.get(
            kind or "", self._settings.departments_base
        )
        if kind is None or (base and not is_below(parse(dn), parse(base))) or (base and parse(dn) == parse(base)):
            return None
        return DirectoryEntry(
            kind=kind,  # type: ignore[arg-type]
            immutable_id=attributes.get("entryuuid", [normalise(dn)])[0],
            dn=normalise(dn),
            attributes={name: tuple(values) for name, values in attributes.items() if name != "userpassword"},
            disabled=_disabled(attributes),
            members=tuple(normalise(one) for one in attributes.get("member", [])),
        )

    def _records(self) -> Iterator[tuple[str, Attributes]]:
        try:
            if self._path.stat().st_size > FILE_MAX:
                raise ReadIncomplete("The directory file is too large.", str(self._path))
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReadIncomplete("The directory file cannot be read.", f"{self._path}: {error}") from None
        dn, attributes = "", Attributes()
        for number, line in _unfolded(text):
            if not line:
                if dn:
                    yield dn, attributes
                dn, attributes = "", Attributes()
                continue
            name, value = self._line(number, line)
            if name == "version" and not dn:
                continue
            if name == "dn":
                if dn or not value:
                    raise self._bad(number, "dn stands in the wrong place")
                dn = value
            elif not dn:
                raise self._bad(number, "an entry must begin with dn:")
            else:
                attributes.setdefault(name, []).append(value)
        if dn:
            yield dn, attributes

    def _line(self, number: int, line: str) -> tuple[str, str]:
        name, colon, rest = line.partition(":")
        if not colon or not name or not name.replace("-", "").replace(";", "").isalnum():
            raise self._bad(number, "no attribute name")
        if rest.startswith("<"):
            raise self._bad(number, "values by URL are not read")
        if not rest.startswith(":"):
            return name.lower(), rest.strip()
        try:
            return name.lower(), base64.b64decode(rest[1:].strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise self._bad(number, "not valid base64 of UTF-8") from None

    def _bad(self, number: int, what: str) -> Invalid:
        return Invalid(f"{self._path.name}, line {number}: {what}", code="ldif_line")


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first line; comments are dropped."""
    current: list[str] | None = None
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(" ") and current is not None:
            current.append(line[1:])
            continue
        if current is not None and not current[0].startswith("#"):
            yield start, "".join(current)
        current, start = [line], number
    if current is not None and not current[0].startswith("#"):
        yield start, "".join(current)


def _disabled(attributes: Attributes) -> bool:
    return "000001010000Z" in attributes.get("pwdaccountlockedtime", [])


def _matches(stored: str, password: str) -> bool:
    if not stored.startswith(ARGON2):
        return False
    try:
        return _hasher.verify(stored.removeprefix(ARGON2), password)
    except (VerificationError, InvalidHashError):
        return False
