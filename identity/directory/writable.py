"""Which fields of a person may be written back to a directory, and which a source writes.

Only contacts and names, each in an attribute of its own that is known to hold nothing else: what signs people in, ties
them to us or gives them rights (login, key, employee number, password, groups, end of the account) is never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from identity.directory.settings import DirectorySettings

WritableField = Literal["name", "family_name", "given_name", "mail", "phone"]
WRITABLE: tuple[WritableField, ...] = ("name", "family_name", "given_name", "mail", "phone")

# Attributes of RFC 2798, RFC 4519 and Active Directory that hold the field and nothing that a server acts on.
_ATTRIBUTES: Mapping[WritableField, frozenset[str]] = {
    "name": frozenset({"displayname"}),
    "family_name": frozenset({"sn"}),
    "given_name": frozenset({"givenname"}),
    "mail": frozenset({"mail"}),
    "phone": frozenset({"mobile", "telephonenumber", "homephone", "ipphone"}),
}
# Other names of the same attribute (RFC 4519, RFC 4524).
_SAME = ({"sn", "surname"}, {"givenname", "gn"}, {"mail", "rfc822mailbox"}, {"mobile", "mobiletelephonenumber"})


_FAULTS: Mapping[str, str] = {
    "file": "a file is only read",
    "unmapped": "it has no attribute",
    "attribute": "{detail} is not an attribute for it",
    "shared": "its attribute is also {detail}",
    "transform": "it has a transform",
    "read_by_transform": "the transform of {detail} reads its attribute",
    "read_by_filter": "users_filter reads its attribute",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a field cannot be written; `detail` names the attribute or field that stands in the way."""

    code: str
    detail: str = ""

    def __str__(self) -> str:
        return _FAULTS[self.code].format(detail=self.detail)


def why_not(settings: DirectorySettings, field: WritableField) -> Fault | None:
    """Why this source cannot write the field; None = it can."""
    if settings.is_file:
        return Fault("file")
    said = getattr(settings.attributes, field)
    if said is None:
        return Fault("unmapped")
    attribute = str(said).lower()
    if attribute not in _ATTRIBUTES[field]:
        return Fault("attribute", str(said))
    names = next((one for one in _SAME if attribute in one), {attribute})
    others = {
        name: str(value).lower()
        for name, value in settings.attributes.model_dump().items()
        if value is not None and name != field
    }
    others |= {"key": settings.key.lower()}
    if settings.disabled_when is not None:
        others["disabled_when"] = settings.disabled_when.attribute.lower()
    for name, other in others.items():
        if other in names:
            return Fault("shared", name)
    for one in settings.transforms:
        if one.field == field:
            return Fault("transform")
        if one.expression and any(_mentions(one.expression, name) for name in names):
            return Fault("read_by_transform", one.field)
    if any(re.search(rf"\(\s*{name}[\s<>~=:;]", settings.users_filter, re.IGNORECASE) for name in names):
        return Fault("read_by_filter")
    return None


def written_fields(settings: DirectorySettings, chosen: Iterable[str]) -> frozenset[str]:
    """The fields that the source writes: those that its settings name, else those `chosen` in the console, as far as
    they can be written with its settings of today."""
    wanted = set(chosen if settings.write_back is None else settings.write_back)
    return frozenset(one for one in WRITABLE if one in wanted and why_not(settings, one) is None)


def _mentions(expression: str, attribute: str) -> bool:
    return re.search(rf"\b{attribute}\b", expression, re.IGNORECASE) is not None
