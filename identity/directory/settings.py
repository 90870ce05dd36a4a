"""Settings of one directory source, as stored in `directory_source.settings` and in configuration files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import parse_filter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from identity.core.errors import Invalid
from identity.directory.dn import parse
from identity.directory.reader import EntryKind
from identity.directory.writable import WritableField, why_not

DirectoryKind = Literal["openldap", "active_directory", "ldap", "ldif", "csv", "xlsx"]
FILES: frozenset[str] = frozenset({"ldif", "csv", "xlsx"})
CAN_LIVE: frozenset[str] = frozenset({"openldap", "active_directory"})

_PIN = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")

AttributeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_ ;-]{0,63}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttributeMap(_Value):
    """Which attribute holds what; None = the source does not say it, and what we hold stays.

    `department` holds a department's code or DN (None: the department in whose subtree the entry lies), `company`
    a company's code, `manager` a DN. `valid_until` holds a generalized time (RFC 4517 §3.3.13),
    a date, or Active Directory's file time.
    """

    login: AttributeName = "uid"
    name: AttributeName = "displayName"
    family_name: AttributeName | None = "sn"
    given_name: AttributeName | None = "givenName"
    mail: AttributeName | None = "mail"
    phone: AttributeName | None = "mobile"
    employee_number: AttributeName | None = "employeeNumber"
    department: AttributeName | None = "departmentNumber"
    company: AttributeName | None = "o"
    position: AttributeName | None = "title"
    manager: AttributeName | None = "manager"
    valid_until: AttributeName | None = None
    group_name: AttributeName = "cn"
    group_title: AttributeName | None = "description"
    member: AttributeName = "member"
    department_code: AttributeName = "ou"
    department_name: AttributeName | None = "description"
    department_company: AttributeName | None = "l"


FieldName = Literal[
    "login",
    "name",
    "family_name",
    "given_name",
    "mail",
    "phone",
    "employee_number",
    "department",
    "company",
    "position",
    "group_name",
    "group_title",
    "department_code",
    "department_name",
    "department_company",
]


class Transform(_Value):
    """How a field is made: by a CEL expression (see `directory/transform.py`), then by a table of its values.

    A value that stands in no line of the table is kept, dropped (the source says nothing), or an error.
    """

    field: FieldName
    expression: str | None = Field(None, min_length=1, max_length=1_024)
    lookup: Mapping[str, str] = Field({}, max_length=10_000)
    otherwise: Literal["keep", "drop", "error"] = "keep"

    @property
    def kind(self) -> Literal["user", "group", "department"]:
        """The kind of entry that has this field."""
        if self.field.startswith("group_"):
            return "group"
        return "department" if self.field.startswith("department_") else "user"


class Marker(_Value):
    """An attribute value that marks an account as disabled, for example employeeType = left."""

    attribute: AttributeName
    value: str = Field(min_length=1)


class Limit(_Value):
    """How much of one kind may change at once: `count`, or `percent` of what there is, whichever is more."""

    count: int = Field(5, ge=0)
    percent: float = Field(10, ge=0, le=100)

    def of(self, total: int) -> int:
        """The number that is allowed."""
        return max(self.count, int(total * self.percent / 100))


LimitName = Literal["user_disable", "user_delete", "cleared", "left", "group_remove", "department_remove"]

# What an Active Directory names differently; a source's own settings win.
_AD_ATTRIBUTES: Mapping[str, str | None] = {
    "login": "sAMAccountName",
    "employee_number": "employeeID",
    "department": "department",
    "company": "company",
    "phone": "mobile",
    "valid_until": "accountExpires",
    "group_name": "sAMAccountName",
}
_AD: Mapping[str, Any] = {
    "key": "objectGUID",
    "users_filter": "(&(objectCategory=person)(objectClass=user))",
    "groups_filter": "(objectClass=group)",
}
# Columns of a table.
_TABLE_ATTRIBUTES: Mapping[str, str | None] = {
    "login": "login",
    "name": "name",
    "family_name": "family_name",
    "given_name": "given_name",
    "mail": "mail",
    "phone": "phone",
    "employee_number": "employee_number",
    "department": "department",
    "company": "company",
    "position": "position",
    "manager": "manager",
    "valid_until": "valid_until",
    "group_name": "name",
    "group_title": "title",
    "member": "members",
    "department_code": "code",
    "department_name": "name",
    "department_company": "company",
}
_KIND_DEFAULTS: Mapping[str, tuple[Mapping[str, str | None], Mapping[str, Any]]] = {
    "active_directory": (_AD_ATTRIBUTES, _AD),
    "csv": (_TABLE_ATTRIBUTES, {"key": "id"}),
    "xlsx": (_TABLE_ATTRIBUTES, {"key": "id"}),
}


class Tables(_Value):
    """Where a table source keeps what: sheets of its workbook, or CSV files beside that of the users; "" = nowhere."""

    users: str = Field(default="users", max_length=100)
    groups: str = Field(default="", max_length=100)
    departments: str = Field(default="", max_length=100)

    @field_validator("groups", "departments")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if "/" in value or "\\" in value or value in {".", ".."}:
            raise ValueError(f"{value!r} is not a plain name")
        return value


class DirectorySettings(_Value):
    """Everything about a directory but its secret.

    `tls`: `ldaps` and `starttls` check the certificate (by `ca_file`, else the system's authorities) and, where
    `pins` are given ("sha256/" + base64 SHA-256 of the server's public key), its key; `none` is for loopback only.
    One sign-in takes at most `login_timeout_s` in all, a page `page_timeout_s`, a whole read `read_timeout_s`.
    `lockout_failures` > 0 = the directory locks after so many failures within `lockout_window_s`; sign-in stops
    binding earlier. Sources of one `forest` name the same people by the same logins.
    """

    kind: DirectoryKind
    path: str = Field("", description="File of an LDIF, CSV or Excel source.")
    tables: Tables = Field(Tables(), description="Sheets, or further CSV files.")
    encoding: Literal["utf-8", "gb18030"] = Field("utf-8", description="Of CSV files; Chinese Excel writes gb18030.")
    delimiter: Literal[",", ";", "\t"] = Field(",", description="Of CSV files.")
    urls: tuple[str, ...] = Field((), description="ldap:// or ldaps:// addresses, tried in this order.")
    tls: Literal["ldaps", "starttls", "none"] = "ldaps"
    ca_file: str | None = None
    pins: tuple[str, ...] = ()
    bind_dn: str = ""
    key: AttributeName = Field("entryUUID", description="Attribute that never changes and is never reused.")
    users_base: str = ""
    users_filter: str = "(objectClass=inetOrgPerson)"
    groups_base: str = ""
    groups_filter: str = "(objectClass=groupOfNames)"
    departments_base: str = ""
    departments_filter: str = "(objectClass=organizationalUnit)"
    attributes: AttributeMap = Field(default_factory=AttributeMap)
    transforms: tuple[Transform, ...] = Field((), max_length=50)
    disabled_when: Marker | None = None
    forest: str | None = Field(None, min_length=1, max_length=64)
    time_zone: str = Field("Asia/Shanghai", description="A date as an end is the end of that day here.")
    page_size: int = Field(500, ge=1, le=10_000)
    connect_timeout_s: int = Field(2, ge=1, le=5)
    login_timeout_s: int = Field(5, ge=1, le=5)
    page_timeout_s: int = Field(30, ge=1, le=300)
    read_timeout_s: int = Field(600, ge=1, le=3_600)
    lockout_failures: int = Field(0, ge=0)
    lockout_window_s: int = Field(1_800, ge=1)
    password_change: bool = Field(False, description="People whose password has expired change it here.")
    write_back: tuple[WritableField, ...] | None = Field(
        None,
        description="Fields that are written there when they are changed here; null = the console chooses.",
    )
    outage_hours: int | None = Field(
        None, ge=1, le=168, description="While the directory is away, the password that it accepted so long ago counts."
    )
    incremental: bool = Field(True, description="Read only what changed, where the directory can say it.")
    limits: Mapping[LimitName, Limit] = Field(
        default_factory=dict, description="When a run must wait for approval; max(5, 10 %) of each where not given."
    )
    delete_after_days: int | None = Field(
        90,
        ge=1,
        description="How long a missing account is in quarantine before its identity is deleted; null = for ever.",
    )
    full_every_s: int = Field(86_400, ge=60, description="Read everything at least this often.")

    @model_validator(mode="before")
    @classmethod
    def _kind_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("kind") not in _KIND_DEFAULTS:
            return values
        names, others = _KIND_DEFAULTS[values["kind"]]
        attributes = values.get("attributes") or {}
        named = {**names, **attributes} if isinstance(attributes, Mapping) else attributes
        return {**others, **values, "attributes": named}

    @field_validator("bind_dn", "users_base", "groups_base", "departments_base")
    @classmethod
    def _is_dn(cls, value: str) -> str:
        if value and "=" in value:
            _refuse(parse, value)
        return value

    @field_validator("users_filter", "groups_filter", "departments_filter")
    @classmethod
    def _is_filter(cls, value: str) -> str:
        _refuse(lambda text: parse_filter(text, None, False, True, None, False), value)
        return value

    @field_validator("transforms")
    @classmethod
    def _each_field_once(cls, value: tuple[Transform, ...]) -> tuple[Transform, ...]:
        fields = [one.field for one in value]
        if len(set(fields)) != len(fields):
            raise ValueError("a field has two transforms")
        return value

    @field_validator("pins")
    @classmethod
    def _are_pins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pin in value:
            if not _PIN.fullmatch(pin):
                raise ValueError(f"{pin!r} is not sha256/ and 44 characters of base64")
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown time zone {value!r}") from error
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for field in self.write_back or ():
            fault = why_not(self, field)
            if fault is not None:
                raise ValueError(f"{field} cannot be written back: {fault}")
        if self.is_file:
            if not self.path or self.urls:
                raise ValueError(f"a source of kind {self.kind} has a path and no urls")
            return self
        if self.path or not self.urls or not self.users_base:
            raise ValueError("an LDAP source has urls and users_base and no path")
        for url in self.urls:
            self._check_url(url)
        return self

    def _check_url(self, url: str) -> None:
        parts = urlsplit(url)
        scheme = "ldaps" if self.tls == "ldaps" else "ldap"
        if parts.scheme != scheme or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"{url!r} is not {scheme}://host or {scheme}://host:port as tls = {self.tls} asks for")
        if self.tls == "none" and not _is_loopback(parts.hostname):
            raise ValueError(f"{url!r}: passwords would cross the network in clear; none is for loopback only")

    def searches(self) -> list[tuple[EntryKind, str, str]]:
        """What is read of an LDAP server: kind, base and filter, in this order."""
        found: list[tuple[EntryKind, str, str]] = [
            ("department", self.departments_base, self.departments_filter),
            ("user", self.users_base, self.users_filter),
            ("group", self.groups_base, self.groups_filter),
        ]
        return [one for one in found if one[1]]

    @property
    def is_file(self) -> bool:
        """Whether the source is a file, which is only read."""
        return self.kind in FILES

    @classmethod
    def load(cls, kind: str, values: Mapping[str, Any]) -> DirectorySettings:
        """The settings from stored or configured values; raises `Invalid` that lists every fault."""
        try:
            return cls.model_validate({**values, "kind": kind})
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, one['loc'])) or 'directory'}: {one['msg']}" for one in error.errors()]
            message = "The directory's settings are not valid: " + "; ".join(faults)
            raise Invalid(message, code="directory_settings") from None


def _refuse(check: Any, value: str) -> None:
    """Run a check of another module with pydantic's kind of error."""
    try:
        check(value)
    except (Invalid, LDAPExceptionError) as error:
        raise ValueError(str(error)) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
