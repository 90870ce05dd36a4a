"""People, groups and departments as tables: CSV files or the sheets of one workbook.

Rows name each other as people write it: a manager by id or login, members by id or login and `@` before a group's
name, a department's parent by its code. They get the DNs that the plan compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from identity.core.errors import Invalid
from identity.directory.dn import normalise
from identity.directory.entries import Names, make_entry
from identity.directory.ldif import password_matches
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
from identity.directory.tables import csv_rows, read_file, records, xlsx_rows

KINDS: tuple[EntryKind, ...] = ("department", "user", "group")
YES = frozenset({"1", "true", "yes", "x", "y", "是"})
PASSWORD = "password_hash"  # noqa: S105  a column's name
DISABLED = "disabled"
PARENT = "parent"

_Row = tuple[int, dict[str, str]]


class TableDirectory:
    """A directory kept in tables; each kind has its own, and only that of users must be there."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self._path = Path(settings.path)

    def read(self, cursor: Cursor | None = None) -> Reading:
        """Every row; the cursor of unchanged files gives no change.

        Raises `Invalid` with file and line, `ReadIncomplete` when a file is not there or holds no user.
        """
        contents = self._contents()
        mark = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents.values())).hexdigest()
        if cursor and cursor.get("sha256") == mark and self._settings.incremental:
            return Reading((), complete=False, cursor={"sha256": mark}, server=str(self._path))
        tables = {kind: list(self._table(kind, contents)) for kind in KINDS}
        if not tables["user"]:
            raise ReadIncomplete("The directory holds no users.", str(self._path), code="read_empty")
        entries = tuple(_Tables(self._settings, tables, self._bad).entries())
        return Reading(entries, cursor={"sha256": mark}, server=str(self._path))

    def pick(self, login: str | None, ids: Collection[str]) -> Reading:  # noqa: ARG002
        """A file is read whole."""
        return self.read()

    def sample(self, login: str) -> DirectoryEntry | None:
        """The entry of this login; None unless there is exactly one."""
        return only_login(self.read(), self._settings.attributes.login, login)

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:  # noqa: ARG002
        """Check the row's `password_hash: {ARGON2}…`, where the table has such a column."""
        if not password:
            return "wrong_password"
        try:
            rows = [row for _, row in self._table("user", self._contents()) if row.get(self._key) == immutable_id]
        except (Invalid, ReadIncomplete):
            return "unavailable"
        if len(rows) != 1:
            return "wrong_password"
        if rows[0].get(DISABLED, "").lower() in YES:
            return "disabled"
        stored = rows[0].get(PASSWORD, "")
        return "ok" if password_matches(stored.encode(), password) else "wrong_password"

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

    @property
    def _key(self) -> str:
        return self._settings.key.lower()

    def _contents(self) -> dict[str, bytes]:
        """The files' contents by name."""
        paths = [self._path]
        if self._settings.kind == "csv":
            more = (self._settings.tables.departments, self._settings.tables.groups)
            paths += [self._path.parent / name for name in more if name]
        return {path.name: read_file(path) for path in paths}

    def _table(self, kind: EntryKind, contents: Mapping[str, bytes]) -> Iterator[_Row]:
        names = self._settings.tables
        chosen = {"user": names.users, "group": names.groups, "department": names.departments}[kind]
        if self._settings.kind == "xlsx":
            if not chosen:
                return
            name = f"{self._path.name}, {chosen}"
            yield from records(name, xlsx_rows(self._path.name, contents[self._path.name], chosen))
            return
        name = self._path.name if kind == "user" else chosen
        if name:
            rows = csv_rows(name, contents[name], self._settings.encoding, self._settings.delimiter)
            yield from records(name, rows)

    def _bad(self, kind: EntryKind, number: int, what: str) -> Invalid:
        return Invalid(f"{self._path.name}, {kind}s, line {number}: {what}", code="table_line")


class _Tables:
    """The rows with their DNs, by which they name each other."""

    def __init__(
        self,
        settings: DirectorySettings,
        tables: Mapping[EntryKind, list[_Row]],
        bad: Callable[[EntryKind, int, str], Invalid],
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._bad = bad
        self._names = Names()
        self._units = self._unit_dns()
        self._users = self._dns("user", "uid", "ou=people", settings.attributes.login)
        self._groups = self._dns("group", "cn", "ou=groups", settings.attributes.group_name)

    def entries(self) -> Iterator[DirectoryEntry]:
        """Every row as an entry; raises `Invalid`."""
        for kind in KINDS:
            seen: dict[str, int] = {}
            for number, row in self._tables[kind]:
                key = row[self._settings.key.lower()]
                if seen.setdefault(key, number) != number:
                    raise self._bad(kind, number, f"the same {self._settings.key} stands at line {seen[key]}")
                yield self._entry(kind, number, row, key)

    def _entry(self, kind: EntryKind, number: int, row: dict[str, str], key: str) -> DirectoryEntry:
        names = self._settings.attributes
        members = None
        if kind == "department":
            dn = self._units[row[names.department_code.lower()]]
        elif kind == "group":
            dn = self._groups[key]
            members = [self._member(one.strip(), number) for one in row.pop(names.member.lower(), "").split(";")]
        else:
            dn = self._users[key]
            manager = row.get((names.manager or "").lower())
            if names.manager and manager:
                row[names.manager.lower()] = self._users.get(manager, "")
        left_out = {PASSWORD, PARENT, DISABLED}
        raw = {name: [cell.encode()] for name, cell in row.items() if name not in left_out and cell}
        disabled = kind == "user" and row.get(DISABLED, "").lower() in YES
        try:
            return make_entry(self._settings, kind, dn, raw, disabled=disabled, members=members, names=self._names)
        except ReadIncomplete as error:
            raise self._bad(kind, number, error.detail or error.public) from None

    def _member(self, name: str, number: int) -> str:
        if not name:
            return ""
        found = self._groups.get(name[1:]) if name.startswith("@") else self._users.get(name)
        if found is None:
            raise self._bad("group", number, f"there is no {name!r}")
        return found

    def _dns(self, kind: EntryKind, attribute: str, base: str, second: str) -> dict[str, str]:
        """DNs of a kind by id and, where that is nobody else's id, by the second name."""
        found: dict[str, str] = {}
        by_name: dict[str, str] = {}
        for number, row in self._tables[kind]:
            key = row.get(self._settings.key.lower())
            if not key:
                raise self._bad(kind, number, f"has no {self._settings.key}")
            found[key] = normalise(f"{attribute}={_escaped(key)},{base}")
            name = row.get(second.lower())
            if name:
                by_name[name] = found[key]
        return by_name | found

    def _unit_dns(self) -> dict[str, str]:
        """DNs of departments by code, each below its parent's."""
        column = self._settings.attributes.department_code.lower()
        parents: dict[str, tuple[int, str | None]] = {}
        for number, row in self._tables["department"]:
            code = row.get(column)
            if not code or not row.get(self._settings.key.lower()):
                raise self._bad("department", number, f"has no {column} or no {self._settings.key}")
            if code in parents:
                raise self._bad("department", number, f"the same {column} stands at line {parents[code][0]}")
            parents[code] = number, row.get(PARENT)
        found: dict[str, str] = {}
        for start in parents:
            path: list[str] = []
            above: str | None = start
            while above is not None and above not in found:
                if above not in parents:
                    raise self._bad("department", parents[path[-1]][0], f"there is no department {above!r}")
                if above in path:
                    raise self._bad("department", parents[above][0], f"{above!r} hangs below itself")
                path.append(above)
                above = parents[above][1]
            base = found[above] if above is not None else "ou=departments"
            for one in reversed(path):
                base = found[one] = normalise(f"ou={_escaped(one)},{base}")
        return found


def _escaped(value: str) -> str:
    """A value in a DN, every byte that could mean something as its hexadecimal (RFC 4514 §2.4)."""
    return "".join(char if char.isalnum() else "".join(f"\\{byte:02x}" for byte in char.encode()) for char in value)
