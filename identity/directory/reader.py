"""What a directory gives: entries as plain values, whole or not at all, and the answer to a bind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from identity.core.errors import Unavailable

BindResult = Literal["ok", "wrong_password", "locked", "disabled", "expired", "must_change", "unavailable"]


class ReadIncomplete(Unavailable):
    """The directory did not give everything; nothing may be concluded from what it gave."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """An entry. Attribute names are in small letters; `dn` and `members` are normalised DNs (RFC 4514)."""

    kind: Literal["user", "group", "department"]
    immutable_id: str
    dn: str
    attributes: Mapping[str, tuple[str, ...]]
    disabled: bool = False
    members: tuple[str, ...] = ()

    def first(self, name: str) -> str | None:
        """The attribute's first value."""
        values = self.attributes.get(name.lower(), ())
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class AttributeMap:
    """Which attribute holds what."""

    login: str = "uid"
    name: str = "displayName"
    family_name: str = "sn"
    given_name: str = "givenName"
    mail: str = "mail"
    phone: str = "mobile"
    employee_number: str = "employeeNumber"
    department: str = "departmentNumber"
    company: str = "o"
    position: str = "title"
    manager: str = "manager"
    group_name: str = "cn"
    department_code: str = "ou"
    department_name: str = "description"
    department_company: str = "l"


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """How to reach and read one directory. Time-outs are seconds; `tls` off is for loopback only."""

    kind: Literal["openldap", "ldif"]
    path: str = ""
    urls: tuple[str, ...] = ()
    tls: Literal["ldaps", "starttls", "none"] = "ldaps"
    ca_file: str | None = None
    bind_dn: str = ""
    users_base: str = ""
    users_filter: str = "(objectClass=inetOrgPerson)"
    groups_base: str = ""
    groups_filter: str = "(objectClass=groupOfNames)"
    departments_base: str = ""
    departments_filter: str = "(objectClass=organizationalUnit)"
    page_size: int = 500
    connect_timeout_s: int = 2
    receive_timeout_s: int = 3
    attributes: AttributeMap = field(default_factory=AttributeMap)

    @classmethod
    def from_json(cls, kind: str, data: Mapping[str, Any]) -> DirectorySettings:
        """From a source's stored settings; raises `ValueError` for unknown names."""
        values = dict(data)
        try:
            names = AttributeMap(**values.pop("attributes", {}))
            urls = tuple(values.pop("urls", ()))
            return cls(kind=kind, attributes=names, urls=urls, **values)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"directory settings: {error}") from None


class Directory(Protocol):
    """Port: a source of people that can also check a password."""

    def read(self) -> tuple[DirectoryEntry, ...]:
        """Every entry; raises `ReadIncomplete` (or `Invalid` for a file with a bad line)."""
        ...

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:
        """Whether this is the entry's password."""
        ...
