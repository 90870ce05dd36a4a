"""Whether what a directory says fits into what we hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from identity.people.inputs import Code, Login, Plain

_PLAIN: TypeAdapter[str] = TypeAdapter(Plain)
_CODE: TypeAdapter[str] = TypeAdapter(Code)
_SHAPES = {"login": TypeAdapter(Login), "company": _CODE, "department": _CODE, "employee_number": _CODE}
# A directory's own names for entries, and a time that is read already.
_NO_TEXT = frozenset({"dn", "manager", "valid_until"})


def unfit(values: Mapping[str, Any], held: Mapping[str, Any]) -> str | None:
    """The first field whose value we cannot hold, and why; what we hold already needs no second look."""
    for name, value in values.items():
        if value is None or value == held.get(name) or name in _NO_TEXT:
            continue
        try:
            _SHAPES.get(name, _PLAIN).validate_python(value)
        except ValidationError as error:
            return f"{name} {value[:64]!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
    return None
