"""Accepted shapes of people, units and groups."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

LOGIN_MAX = 128
RESERVED_LOGINS = frozenset({"admin", "administrator", "root", "system", "anonymous", "tessera"})


def fold_login(login: str) -> str:
    """The key under which all spellings of one login are the same: NFKC, case folded, outer spaces removed."""
    if login.isascii():
        return login.strip().lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", login).strip().casefold())


def _plain(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for c in text):
        raise ValueError("has control, invisible or private characters")
    return text


def _login(text: str) -> str:
    text = _plain(text)
    if text != text.strip() or any(c.isspace() for c in text):
        raise ValueError("has spaces")
    if fold_login(text) in RESERVED_LOGINS:
        raise ValueError("is a reserved name")
    return text


Plain = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_plain)]
Login = Annotated[str, StringConstraints(min_length=1, max_length=LOGIN_MAX), AfterValidator(_login)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_plain)]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Input):
    """Names and contacts; None = unknown."""

    name: Plain
    family_name: Plain | None = None
    given_name: Plain | None = None
    mail: Plain | None = None
    phone: Plain | None = None
    locale: Code | None = None


class NewUser(_Input):
    """A new identity, of a new person unless `person_id` says whose."""

    login: Login
    profile: Profile
    person_id: UUID | None = None
    state: Literal["active", "disabled"] = "active"
    valid_until: datetime | None = None


class OrgUnitInput(_Input):
    """A unit of a tree, named by its code."""

    code: Code
    name: Plain
    kind: Literal["holding", "company", "division", "department", "project", "cost_center"]
    tree: Code = "administrative"
    parent_code: Code | None = None
    company_code: Code | None = None
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] | None = None


class EmploymentInput(_Input):
    """Where a person works; units and positions by code, the manager by person id."""

    company_code: Code
    org_unit_code: Code | None = None
    position: Plain | None = None
    employee_number: Code | None = None
    manager_person_id: UUID | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class GroupInput(_Input):
    """A group; `source_id` and `immutable_id` say which directory's."""

    name: Plain
    display_name: Plain
    source_id: UUID | None = None
    immutable_id: str | None = None
    dn: str | None = None
