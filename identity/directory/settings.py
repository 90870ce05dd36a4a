"""Settings of one directory source, as stored in `directory_source.settings` and in configuration files."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import parse_filter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from identity.core.errors import Invalid
from identity.directory.dn import parse

_PIN = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")

AttributeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Search(_Value):
    """Where entries of one kind are found and which attribute names them for ever."""

    base: str = Field(min_length=1, description="DN; the whole subtree is read.")
    object_class: AttributeName
    filter: str = Field("", description="RFC 4515 filter that narrows further; LDAP sources only.")
    key: AttributeName = Field("entryUUID", description="Attribute that never changes and is never reused.")

    @field_validator("base")
    @classmethod
    def _is_dn(cls, value: str) -> str:
        _refuse(parse, value)
        return value

    @field_validator("filter")
    @classmethod
    def _is_filter(cls, value: str) -> str:
        if value:
            _refuse(lambda text: parse_filter(text, None, False, True, None, False), value)
        return value


class UserAttributes(_Value):
    """Which attribute of a user entry holds what; None = the source does not say it.

    `department` holds a department's code or DN, `company` a company's code, `manager` a DN. `facts` are further
    attributes that policy may read: {our name: attribute}.
    """

    login: AttributeName = "uid"
    name: AttributeName = "cn"
    family_name: AttributeName | None = "sn"
    given_name: AttributeName | None = "givenName"
    mail: AttributeName | None = "mail"
    phone: AttributeName | None = "telephoneNumber"
    locale: AttributeName | None = "preferredLanguage"
    employee_number: AttributeName | None = "employeeNumber"
    company: AttributeName | None = "o"
    department: AttributeName | None = "departmentNumber"
    position: AttributeName | None = "title"
    manager: AttributeName | None = "manager"
    facts: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], AttributeName] = Field(default_factory=dict)


class GroupAttributes(_Value):
    """Which attribute of a group entry holds what; `member` holds DNs of users and groups."""

    name: AttributeName = "cn"
    display_name: AttributeName | None = "description"
    member: AttributeName = "member"


class DepartmentAttributes(_Value):
    """Which attribute of a department entry holds what.

    `parent` holds the parent's code or DN; None = the entry above it in the tree. `company` holds a company's
    code; None = the company of the department above.
    """

    code: AttributeName = "ou"
    name: AttributeName = "ou"
    parent: AttributeName | None = None
    company: AttributeName | None = None


class Marker(_Value):
    """An attribute value that marks an account as disabled, for example employeeType = left."""

    attribute: AttributeName
    value: str = Field(min_length=1)


class DirectorySettings(_Value):
    """Everything about a directory but its secret.

    `tls`: `ldaps` and `starttls` check the certificate (by `ca_file`, else the system's authorities, and by
    `pins` = "sha256/" + base64 SHA-256 of the server's public key); `plain` is for loopback only. One login takes
    at most `login_timeout_s` in all; a whole read at most `read_timeout_s`. `lockout_failures` > 0 = the
    directory locks after so many failures within `lockout_window_s`: sign-in must stop binding earlier.
    """

    kind: Literal["openldap", "ldif"]
    urls: tuple[str, ...] = ()
    tls: Literal["ldaps", "starttls", "plain"] = "ldaps"
    ca_file: Path | None = None
    pins: tuple[str, ...] = ()
    bind_dn: str = ""
    file: Path | None = None
    users: Search
    groups: Search | None = None
    departments: Search | None = None
    user: UserAttributes = UserAttributes()
    group: GroupAttributes = GroupAttributes()
    department: DepartmentAttributes = DepartmentAttributes()
    disabled_when: Marker | None = None
    valid_until: AttributeName | None = Field(None, description="Attribute with an end: generalized time or date.")
    time_zone: str = Field("Asia/Shanghai", description="A date as an end is the end of that day here.")
    page_size: int = Field(1_000, ge=1, le=10_000)
    connect_timeout_s: float = Field(2.0, gt=0, le=5)
    login_timeout_s: float = Field(5.0, gt=0, le=5)
    page_timeout_s: float = Field(30.0, gt=0, le=300)
    read_timeout_s: float = Field(600.0, gt=0, le=3_600)
    lockout_failures: int = Field(0, ge=0)
    lockout_window_s: int = Field(1_800, ge=1)

    @field_validator("bind_dn")
    @classmethod
    def _is_dn(cls, value: str) -> str:
        _refuse(parse, value)
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
        searches = [one for one in (self.users, self.groups, self.departments) if one is not None]
        if self.kind == "ldif":
            if self.file is None or self.urls:
                raise ValueError("an LDIF source has a file and no urls")
            if any(one.filter for one in searches):
                raise ValueError("filters are for LDAP sources")
        else:
            if self.file is not None or not self.urls:
                raise ValueError("an LDAP source has urls and no file")
            for url in self.urls:
                self._check_url(url)
        return self

    def _check_url(self, url: str) -> None:
        parts = urlsplit(url)
        scheme = "ldaps" if self.tls == "ldaps" else "ldap"
        if parts.scheme != scheme or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"{url!r} is not {scheme}://host or {scheme}://host:port as tls = {self.tls} asks for")
        if self.tls == "plain" and not _is_loopback(parts.hostname):
            raise ValueError(f"{url!r}: passwords would cross the network in clear; plain is for loopback only")

    @classmethod
    def load(cls, values: Any) -> DirectorySettings:
        """The settings from stored or configured values; raises `Invalid` that lists every fault."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, one['loc'])) or 'directory'}: {one['msg']}" for one in error.errors()]
            raise Invalid("The directory's settings are not valid: " + "; ".join(faults), code="settings") from None


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
