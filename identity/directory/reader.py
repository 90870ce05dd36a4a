"""What a directory gives: entries as plain values, whole or not at all, and the answer to a bind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from identity.core.errors import Unavailable

EntryKind = Literal["user", "group", "department"]
# `unwilling`: no server of the directory lets the account bind, and none says why.
BindResult = Literal[
    "ok", "wrong_password", "locked", "disabled", "expired", "must_change", "denied", "unwilling", "unavailable"
]
ChangeResult = Literal["ok", "wrong_password", "locked", "refused", "off", "unavailable"]
Cursor = Mapping[str, str]


class ReadIncomplete(Unavailable):
    """The directory did not give everything; nothing may be concluded from what it gave."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """An entry. Attribute names are in small letters; `dn` and `members` are normalised DNs (RFC 4514).

    `valid_until`: the account may act before it (aware), None = no end. `skipped` names attributes with a value that
    is binary, oversized or not text, and was left out.
    """

    kind: EntryKind
    immutable_id: str
    dn: str
    attributes: Mapping[str, tuple[str, ...]]
    disabled: bool = False
    members: tuple[str, ...] = ()
    valid_until: datetime | None = None
    skipped: tuple[str, ...] = ()

    def first(self, name: str | None) -> str | None:
        """The attribute's first value."""
        values = self.attributes.get(name.lower(), ()) if name else ()
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read gave.

    `complete`: these are all entries; else they are those that changed since the cursor, and `gone` are the ids of
    those that went; a directory that does not say them gives `present`, the ids of all that is there. `cursor` is
    handed in at the next read. `server` is the address that answered.
    """

    entries: tuple[DirectoryEntry, ...]
    complete: bool = True
    gone: frozenset[str] = frozenset()
    present: frozenset[str] | None = None
    cursor: Cursor = field(default_factory=dict)
    server: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """Make `attribute` hold `value`, where it holds one of `expected`; None = nothing."""

    attribute: str
    expected: Collection[str | None]
    value: str | None


WriteOutcome = Literal["ok", "newer", "missing", "refused", "off", "unavailable"]


@dataclass(frozen=True, slots=True)
class Written:
    """What came of writing an attribute: `newer` = the directory has a value that we did not know, `missing` = it has
    no such entry, `refused` for good. `found` is the value that was there, `detail` the server's word for why."""

    outcome: WriteOutcome
    found: str | None = None
    detail: str = ""


def only_login(reading: Reading, attribute: str, login: str) -> DirectoryEntry | None:
    """The one user with this login in a reading."""
    found = [one for one in reading.entries if one.kind == "user" and one.first(attribute) == login]
    return found[0] if len(found) == 1 else None


class Directory(Protocol):
    """Port: a source of people that can also check a password."""

    def read(self, cursor: Cursor | None = None) -> Reading:
        """Every entry, or with a cursor that the directory still understands what changed since.

        Raises `ReadIncomplete` for anything less (and `Invalid` for a file with a bad line).
        """
        ...

    def pick(self, login: str | None, ids: Collection[str]) -> Reading:
        """Only the users with this login or these ids, with their groups and what their place is read from; everything
        where that costs the same. Raises as `read`."""
        ...

    def sample(self, login: str) -> DirectoryEntry | None:
        """The entry of this login as the directory says it; None unless there is exactly one. Raises as `read`."""
        ...

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:
        """Whether this is the entry's password."""
        ...

    def change_password(self, immutable_id: str, old: str, new: str) -> ChangeResult:
        """Change the entry's password, where the source lets us: `off` else, `refused` by the directory's own rules."""
        ...

    def write(self, immutable_id: str, edit: Edit) -> Written:
        """Write one attribute of the entry; `off` for a file. Raises nothing."""
        ...

    def lockout(self) -> tuple[int, int]:
        """After how many failed binds the directory locks an account (0 = never), within how many seconds."""
        ...

    def close(self) -> None:
        """End what is kept open; the directory can still be used."""
        ...
