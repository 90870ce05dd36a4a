"""A person's names and contacts as the console shows and changes them: each field with who has the say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select

from identity.core.errors import Invalid, NotFound, Stale
from identity.core.unit import Unit
from identity.directory.writable import WRITABLE
from identity.people.inputs import Profile
from identity.people.models import PersonProfile, SourceAccount, User, WriteBack
from identity.people.service_write_back import Master, masters


@dataclass(frozen=True, slots=True)
class Field:
    """One field; `master` = the directory that says it, `item` = what came of its last change, where that is not
    written."""

    name: str
    value: str | None
    master: Master | None
    item: Any = None

    @property
    def fixed(self) -> bool:
        """Whether it is changed in its directory only."""
        return self.master is not None and not self.master.writes


def fields(unit: Unit, user_id: UUID) -> Sequence[Field]:
    """The fields of the identity's person; raises `NotFound`."""
    row = _profile(unit, user_id)
    found = masters(unit, user_id)
    items = {
        (one.account_id, one.field): one
        for one in unit.db.execute(
            select(WriteBack)
            .join(SourceAccount, SourceAccount.id == WriteBack.account_id)
            .where(WriteBack.account_id.in_([master.account_id for master in found.values()]))
            .where(WriteBack.state != "done")
        ).scalars()
    }
    return [
        Field(name, getattr(row, name), master, items.get((master.account_id, name)) if master else None)
        for name in WRITABLE
        for master in [found.get(name)]
    ]


def wanted(unit: Unit, user_id: UUID, form: Mapping[str, str]) -> Profile:
    """The profile that a form asks for: each field that it has and that was changed in it.

    Raises `Stale` when such a field is no longer what the form showed, `Invalid` for a value that may not be held.
    """
    row = _profile(unit, user_id)
    values = {name: getattr(row, name) for name in Profile.model_fields}
    for name in WRITABLE:
        if name not in form:
            continue
        value, shown = _line(form[name]), form.get(f"was_{name}", "") or None
        if value == _line(shown or ""):
            continue
        if shown != values[name]:
            raise Stale("Somebody else has changed this person since the page was loaded.", code="stale_profile")
        values[name] = value
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise Invalid("This value cannot be held.", field, code=f"profile_{field}") from None


def _profile(unit: Unit, user_id: UUID) -> PersonProfile:
    query = select(PersonProfile).join(User, User.person_id == PersonProfile.person_id).where(User.id == user_id)
    row = unit.db.execute(query).scalar_one_or_none()
    if row is None:
        raise NotFound("There is no such user.")
    return row


def _line(text: str) -> str | None:
    """One line with single spaces, as a directory's values are read."""
    return " ".join(text.split()) or None
