"""The two ports of a directory and the values that cross them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from identity.core.errors import Unavailable

EntryKind = Literal["user", "group", "department"]


class ReadIncomplete(Unavailable):
    """The directory could not be read to its end, or answered with less than a directory can hold."""

    def __init__(self, public: str, detail: str = "", *, code: str = "read_incomplete") -> None:
        super().__init__(public, detail, code=code, retry_after_s=60)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One entry as the directory holds it.

    `immutable_id` is the value of the key attribute (entryUUID: lower case). `dn` and `members` are canonical
    (`dn.normalise`). `attributes` holds only mapped attributes, by lower-case name, never empty, values without
    control characters. `disabled` and `valid_until` (UTC, exclusive) say what the source says of an account.
    `faults` names attributes whose value could not be taken {lower-case name: what is wrong}; what is known of
    such an attribute must be left as it is.
    """

    kind: EntryKind
    immutable_id: str
    dn: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    disabled: bool = False
    valid_until: datetime | None = None
    members: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    def first(self, attribute: str | None) -> str | None:
        """The first value of an attribute, whatever the case of its name."""
        values = self.attributes.get(attribute.lower()) if attribute else None
        return values[0] if values else None


class Outcome(StrEnum):
    """How a password check ended; only `OK` lets anybody in, only `WRONG_PASSWORD` counts as a failure."""

    OK = "ok"
    WRONG_PASSWORD = "wrong_password"
    NOT_FOUND = "not_found"
    AMBIGUOUS = "ambiguous"
    OTHER_ENTRY = "other_entry"
    DISABLED = "disabled"
    LOCKED = "locked"
    EXPIRED = "expired"
    MUST_CHANGE = "must_change"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class BindResult:
    """The outcome, the entry it is about when exactly one was found, and a detail for the log and the audit.

    `EXPIRED` and `MUST_CHANGE` are about the password; `MUST_CHANGE` says that it was right. `OTHER_ENTRY`: the
    login belongs to another entry than the account that was asked for.
    """

    outcome: Outcome
    dn: str = ""
    immutable_id: str = ""
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK


class DirectoryReader(Protocol):
    """Reads a whole directory."""

    def check(self) -> None:
        """Return when the source answers and every base can be read; raises `Unavailable` with the cause."""
        ...

    def read(self) -> tuple[DirectoryEntry, ...]:
        """All entries of all configured kinds, or nothing.

        Raises `ReadIncomplete` when anything was cut short (time, size, a lost connection, a referral, an
        unreadable line), when a configured kind is empty, and when an entry has no key or shares it with another.
        """
        ...


class PasswordVerifier(Protocol):
    """Checks passwords; never raises for what a client sent or a server answered."""

    def verify(self, login: str, password: str, immutable_id: str | None = None) -> BindResult:
        """Find exactly one user by login, then check the password.

        With `immutable_id` the entry found must be that one. An empty password is refused before anything is
        sent (RFC 4513 §5.1.2: it would bind as nobody and succeed).
        """
        ...

    def bind(self, dn: str, password: str) -> BindResult:
        """Check the password of the entry with this DN."""
        ...
