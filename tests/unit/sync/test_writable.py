"""Which fields a source can write back: those whose attribute decides nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from identity.core.errors import Invalid
from identity.directory.settings import DirectorySettings


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kind": "ldif", "path": "x.ldif"}, "only read"),
        ({"attributes": {"mail": None}}, "no attribute"),
        ({"attributes": {"mail": "userPassword"}}, "is not an attribute for it"),
        ({"attributes": {"mail": "mail;lang-en"}}, "is not an attribute for it"),
        ({"attributes": {"login": "mail"}}, "also login"),
        ({"attributes": {"employee_number": "MAIL"}}, "also employee_number"),
        ({"key": "mail"}, "also key"),
        ({"disabled_when": {"attribute": "mail", "value": "x"}}, "also disabled_when"),
        ({"transforms": [{"field": "mail", "lookup": {"a": "b"}}]}, "has a transform"),
        ({"transforms": [{"field": "login", "expression": "entry['Mail'][0]"}]}, "transform of login reads"),
        ({"users_filter": "(&(objectClass=person)( rfc822Mailbox=*@x))"}, "users_filter reads"),
    ],
)
def test_an_attribute_that_decides_anything_is_not_written(settings: dict[str, Any], why: str) -> None:
    base: dict[str, Any] = {"kind": "openldap", "urls": ["ldaps://x"], "users_base": "ou=people,dc=x"}
    base = settings if "path" in settings else base | settings
    kind = base.pop("kind")
    assert DirectorySettings.load(kind, base)
    with pytest.raises(Invalid, match=why):
        DirectorySettings.load(kind, base | {"write_back": ["mail"]})
    with pytest.raises(Invalid):
        DirectorySettings.load(kind, base | {"write_back": ["employee_number"]})
